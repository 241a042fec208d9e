"""The truth of one event: which particle made each hit, and what the particles are."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe

# Columns of Truth.particles. Counts refer to the FULL event in the hit collection that is scored
# (for example all pixel hits), never to a sector or window, so that metrics stay right there.
PARTICLE_COLUMNS = (
    "particle_id",  # int64, > 0
    "pt",  # transverse momentum at production [GeV]
    "eta",  # pseudorapidity of the momentum at production
    "phi",  # azimuth of the momentum at production [rad]
    "vx",  # production vertex [mm]
    "vy",
    "vz",
    "q",  # charge [e]
    "n_hits",  # hits in the scored collection
    "n_layers",  # distinct (volume_id, layer_id) in the scored collection
    "n_layer_ids",  # distinct layer_id, volume ignored (the gnn_tracking rule)
    "n_hits_all",  # hits in the whole detector
    "generation",  # 0 = primary, > 0 = from a material interaction
)


@dataclass(frozen=True)
class Truth:
    """Truth of one event, row by row beside its ``Hits``.

    hit_id: (n,) int64, same order as the hits
    particle_id: (n,) int64, 0 = noise (no particle)
    weight: (n,) float64, TrackML weight of the hit in the full event
    particles: table with ``PARTICLE_COLUMNS``, sorted by particle_id; particles without a hit in the
        collection are kept (n_hits = 0)
    event_id: number of the event
    """

    hit_id: np.ndarray
    particle_id: np.ndarray
    weight: np.ndarray
    particles: pd.DataFrame
    event_id: int = 0

    def __post_init__(self):
        n = len(self.hit_id)
        for name in ("particle_id", "weight"):
            if np.shape(getattr(self, name)) != (n,):
                raise InputError(describe(f"Truth.{name}", f"shape {np.shape(getattr(self, name))}", f"({n},)"))
        missing = [name for name in PARTICLE_COLUMNS if name not in self.particles]
        if missing:
            raise InputError(describe("Truth.particles", f"no column {missing[0]}", ", ".join(PARTICLE_COLUMNS)))

    def __len__(self) -> int:
        return len(self.hit_id)
