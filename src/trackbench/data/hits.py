"""The hits of one event: everything a tracker may see, and nothing more."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe

HIT_COLUMNS = ("hit_id", "x", "y", "z", "volume_id", "layer_id", "module_id")
# Names and order of the features that ``data.cell_features`` computes.
CELL_FEATURES = ("charge_frac", "leta", "lphi", "lx", "ly", "lz", "geta", "gphi")


@dataclass(frozen=True)
class Hits:
    """Hits of one event as plain arrays. There are no truth fields, so a tracker cannot peek.

    hit_id: (n,) int64, unique among valid hits
    xyz: (n, 3) float64, global position [mm]
    volume_id, layer_id, module_id: (n,) int64
    valid: (n,) bool, True = real hit, False = padding
    features: name -> (n,) float64, optional per-hit extras such as cell features
    event_id: number of the event
    """

    hit_id: np.ndarray
    xyz: np.ndarray
    volume_id: np.ndarray
    layer_id: np.ndarray
    module_id: np.ndarray
    valid: np.ndarray
    features: dict[str, np.ndarray] = field(default_factory=dict)
    event_id: int = 0

    def __post_init__(self):
        n = len(self.hit_id)
        if self.xyz.shape != (n, 3):
            raise InputError(describe("Hits.xyz", f"shape {self.xyz.shape}", f"({n}, 3)"))
        per_hit = {"volume_id": self.volume_id, "layer_id": self.layer_id, "module_id": self.module_id}
        for name, values in {**per_hit, "valid": self.valid, **self.features}.items():
            if np.shape(values) != (n,):
                raise InputError(describe(f"Hits.{name}", f"shape {np.shape(values)}", f"({n},)"))

    def __len__(self) -> int:
        return len(self.hit_id)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, event_id: int = 0, features: tuple[str, ...] = ()) -> "Hits":
        """Build from a table with the columns of ``HIT_COLUMNS`` (others are ignored).

        features: further columns to carry along as float64
        """
        missing = [name for name in (*HIT_COLUMNS, *features) if name not in frame]
        if missing:
            raise InputError(describe("hits table", f"no column {missing[0]}", "columns " + ", ".join(HIT_COLUMNS)))
        integer = {name: frame[name].to_numpy(np.int64) for name in ("hit_id", "volume_id", "layer_id", "module_id")}
        return cls(
            xyz=frame[["x", "y", "z"]].to_numpy(np.float64),
            valid=np.ones(len(frame), dtype=bool),
            features={name: frame[name].to_numpy(np.float64) for name in features},
            event_id=event_id,
            **integer,
        )

    def take(self, index: np.ndarray) -> "Hits":
        """Return the hits at ``index``: (m,) int positions or (n,) bool mask."""
        arrays = ("hit_id", "xyz", "volume_id", "layer_id", "module_id", "valid")
        changed = {name: getattr(self, name)[index] for name in arrays}
        return replace(self, features={k: v[index] for k, v in self.features.items()}, **changed)
