"""Iterative window: put a window where most unassigned hits are, remove them, repeat.

Source: one of the four clusterers of the Trackformers talk ("Transformer-inspired ML models for particle
track reconstruction"), which gives no parameters. Meant as an attention mask: with a margin every cluster
shares the hits around its window, so that tracks at its edge are whole somewhere. The defaults are tuned
for double-majority efficiency instead; for masks see ``trackbench.surface_table``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.geometry.projection import Region
from trackbench.trackers.layers.surfaces import HitSets, SurfaceConfig, SurfaceTracker, sets_of_labels
from trackbench.trackers.layers.windows import iterative_windows, widen_windows


@dataclass(frozen=True)
class Config(SurfaceConfig):
    """Options of the iterative window, besides those of ``SurfaceConfig``. Lengths in mm.

    barrel_window_u, barrel_window_w: window in the barrel; endcap_window: side of the square on the discs
    barrel_cell_u, barrel_cell_w, endcap_cell: steps in which windows move; windows are multiples of them
    barrel_margin_u, barrel_margin_w, endcap_margin: clusters (not labels) share hits this far outside; 0 = none
    min_hits: stop when no window has so many free hits
    """

    barrel_window_u: float = 3.0
    barrel_window_w: float = 6.0
    barrel_cell_u: float = 0.5
    barrel_cell_w: float = 1.0
    barrel_margin_u: float = 0.0
    barrel_margin_w: float = 0.0
    endcap_window: float = 2.0
    endcap_cell: float = 0.5
    endcap_margin: float = 0.0
    min_hits: int = 3

    def __post_init__(self):
        super().__post_init__()
        for window, cell in (
            ("barrel_window_u", "barrel_cell_u"),
            ("barrel_window_w", "barrel_cell_w"),
            ("endcap_window", "endcap_cell"),
        ):
            self.require_positive(window, cell)
            ratio = getattr(self, window) / getattr(self, cell)
            multiple = round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-6
            self.require(window, multiple, f"a multiple of {cell} = {getattr(self, cell):g} mm")
        for name in ("barrel_margin_u", "barrel_margin_w", "endcap_margin"):
            self.require(name, 0 <= getattr(self, name) < np.inf, ">= 0 mm")
        self.require_positive("min_hits")


class Tracker(SurfaceTracker):
    """Iterative window per surface; labels are the windows without their margin."""

    environment: ClassVar[str] = "cluster"
    search_space: ClassVar[dict[str, tuple]] = {
        "barrel_window_u": (2.0, 3.0, 4.0),
        "barrel_window_w": (4.0, 6.0, 10.0),
        "endcap_window": (1.5, 2.0, 3.0),
    }
    search_groups: ClassVar = (("barrel_window_u", "barrel_window_w"), ("endcap_window",))

    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """Number of the window that took each hit of one region."""
        return self._take(uw, region)[0]

    def region_clusters(self, uw: np.ndarray, region: Region) -> HitSets:
        """Windows with their margin: overlapping hit sets. Without a margin: the labels."""
        config = self.config
        margin = (config.endcap_margin, config.endcap_margin)
        if region.barrel:
            margin = (config.barrel_margin_u, config.barrel_margin_w)
        labels, corner, grid = self._take(uw, region)
        if not any(margin):
            return sets_of_labels(labels)
        # Neighbouring windows share hits: in row order their blocks of the attention matrix are adjacent.
        rows = np.lexsort((corner[:, 1], corner[:, 0]))
        return widen_windows(uw, corner[rows], grid, margin)

    def _take(self, uw, region):
        config = self.config
        window, cell, period = (config.endcap_window,) * 2, (config.endcap_cell,) * 2, 0.0
        if region.barrel:
            window = (config.barrel_window_u, config.barrel_window_w)
            cell = (config.barrel_cell_u, config.barrel_cell_w)
            period = 2 * np.pi * config.barrel_radius
        return iterative_windows(uw, window, cell, period, config.min_hits)
