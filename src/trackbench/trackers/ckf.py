"""Combinatorial Kalman filter of ACTS: triplet seeds, track following with material, ambiguity resolution.

The classical chain of today's experiments, on the hits that every tracker sees. It runs in passes, each on the hits
that tracks of the passes before have left:

1. prompt tracks on many layers, down to a transverse momentum far below that of interest,
2. tracks on few layers that fit the beam line, and displaced ones,
3. in the full detector, tracks of particles born outside the pixels, from seeds in the short strips.

Every track comes with its parameters at the perigee. Needs the package pyacts (extra ``ckf``). Limits: a uniform
field of 2 T, the TrackML detector and its material as ACTS describes it, resolutions of the simulation.

Sources: ACTS, Ai et al., Comput. Softw. Big Sci. 6 (2022) 8; combinatorial Kalman filter: R. Mankel, Nucl. Instrum.
Meth. A 395 (1997) 169.
"""

from dataclasses import dataclass

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import Tracks
from trackbench.errors import require
from trackbench.geometry.detector import is_pixel
from trackbench.trackers.base import Timer, TrackerBase

STOPS = ("seeding", "finding", "ambiguity")


@dataclass(frozen=True)
class Config:
    """Settings of the chain.

    min_pt: lowest transverse momentum of the first pass [GeV]; below the momentum of interest, because soft tracks
        that are not found leave their hits to chance candidates
    max_z0: largest |z| of the collisions [mm], 3.6 sigma_z of the beam spot
    max_d0: largest |d0| of displaced tracks from seeds in the pixels [mm]; 0 = no search for these, nor for tracks from
        seeds in the strips
    stop_after: last stage: "seeding" (the seeds of the first pass are the candidates), "finding" (tracks that share
        hits all stay) or "ambiguity" (the whole chain)
    """

    min_pt: float = 0.25
    max_z0: float = 20.0
    max_d0: float = 15.0
    stop_after: str = "ambiguity"

    def __post_init__(self):
        for name, (low, high) in {"min_pt": (0.1, 10.0), "max_z0": (1.0, 500.0), "max_d0": (0.0, 100.0)}.items():
            value = getattr(self, name)
            require(f"trackers.ckf.{name}", value, low <= value <= high, f"{low} to {high}")
        require("trackers.ckf.stop_after", self.stop_after, self.stop_after in STOPS, "one of " + ", ".join(STOPS))


class Tracker(TrackerBase):
    """Passes of the ACTS chain; the algorithms are made once, for pixels and for the full detector apart."""

    fits = True
    needs_modules = True
    environment = "acts"

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config, seed)
        self._algorithms: dict[bool, list] = {}

    def find_tracks(self, hits: Hits, timer: Timer) -> Tracks | np.ndarray:
        """Run all passes. Returns labels (n,) and parameters; labels alone from seeds."""
        from trackbench.trackers.layers.acts_event import Board, best_track, by_first_hit, joined, track_parameters

        with timer.stage("read"):
            board = Board(hits)
        found, free = [], np.ones(len(hits), dtype=bool)
        for settings, algorithms in self._passes(bool(is_pixel(hits.volume_id).all())):
            with timer.stage("read"):
                board.start(np.flatnonzero(free))
            found.append(self._run(board, settings, algorithms, timer))
            free[found[-1].hit] = False
        with timer.stage("postprocess"):
            tracks = joined(found)
            labels, kept = by_first_hit(best_track(tracks, len(hits)))
            if self.config.stop_after == "seeding":
                return labels
            return Tracks(labels, track_parameters(tracks).take(kept))

    def _passes(self, pixel_only: bool) -> list:
        """Settings and algorithms of each pass; of seeds alone, those of the first pass."""
        if pixel_only not in self._algorithms:
            from trackbench.trackers.layers.acts_finding import build_pass
            from trackbench.trackers.layers.acts_passes import passes

            settings = passes(self.config.min_pt, self.config.max_z0, self.config.max_d0, pixel_only)
            if self.config.stop_after == "seeding":
                settings = settings[:1]
            self._algorithms[pixel_only] = [(one, build_pass(one)) for one in settings]
        return self._algorithms[pixel_only]

    def _run(self, board, settings, algorithms: dict[str, list], timer: Timer):
        """Run one pass up to the last stage asked for. Returns its ``acts_event.Found``."""
        from trackbench.trackers.layers.acts_finding import SEEDS, SPACE_POINTS, TRACKS, good_fits

        stop = self.config.stop_after
        for stage in STOPS[: STOPS.index(stop) + 1]:
            with timer.stage(stage):
                for algorithm in algorithms[stage]:
                    board.run(algorithm)
        with timer.stage("postprocess"):
            if stop == "seeding":
                return board.seeds(SPACE_POINTS, SEEDS)
            tracks = board.tracks(TRACKS[stop])
            return tracks.take(good_fits(tracks, settings))
