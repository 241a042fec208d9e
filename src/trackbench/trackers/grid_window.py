"""Grid window: cut the surface into fixed windows, overlapping if the stride is smaller than the window.

Source: one of the four clusterers of the Trackformers talk ("Transformer-inspired ML models for particle
track reconstruction"), which gives no parameters. The simplest attention mask: cheap, blind to the hits.
The defaults are windows for double-majority efficiency; for masks see ``trackbench.surface_table``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.geometry.projection import Region
from trackbench.trackers.layers.surfaces import HitSets, SurfaceConfig, SurfaceTracker
from trackbench.trackers.layers.windows import grid_windows


@dataclass(frozen=True)
class Config(SurfaceConfig):
    """Options of the grid window, besides those of ``SurfaceConfig``. Lengths in mm.

    barrel_window_u, barrel_window_w: window in the barrel; endcap_window: side of the square on the discs
    stride: distance of neighbouring windows over their length, in (0, 1]; 1 = disjoint, 0.5 = half overlapping
    min_hits: windows with fewer hits are dropped
    """

    barrel_window_u: float = 3.0
    barrel_window_w: float = 6.0
    endcap_window: float = 2.0
    stride: float = 1.0
    min_hits: int = 3

    def __post_init__(self):
        super().__post_init__()
        self.require_positive("barrel_window_u", "barrel_window_w", "endcap_window", "min_hits")
        self.require("stride", 0 < self.stride <= 1, "in (0, 1]")


class Tracker(SurfaceTracker):
    """Grid window per surface; the label of a hit is its fullest window."""

    environment: ClassVar[str] = "cluster"
    search_space: ClassVar[dict[str, tuple]] = {
        "barrel_window_u": (2.0, 3.0, 4.0),
        "barrel_window_w": (4.0, 6.0, 10.0),
        "endcap_window": (1.5, 2.0, 3.0),
    }
    search_groups: ClassVar = (("barrel_window_u", "barrel_window_w"), ("endcap_window",))

    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """Fullest window of each hit of one region."""
        return self._windows(uw, region)[1]

    def region_clusters(self, uw: np.ndarray, region: Region) -> HitSets:
        """All windows with enough hits, overlapping if the stride is smaller than the window."""
        return self._windows(uw, region)[0]

    def _windows(self, uw, region):
        config = self.config
        window, period = (config.endcap_window,) * 2, 0.0
        if region.barrel:
            window = (config.barrel_window_u, config.barrel_window_w)
            period = 2 * np.pi * config.barrel_radius
        return grid_windows(uw, window, config.stride, period, config.min_hits)
