"""Grid window: cut the surface into fixed windows, overlapping if the stride is smaller than the window.

Source: one of the four clusterers of the Trackformers talk ("Transformer-inspired ML models for particle
track reconstruction"), which gives no parameters. The simplest attention mask: cheap, blind to the hits.
"""

from dataclasses import dataclass

import numpy as np

from trackbench.geometry.projection import Region
from trackbench.trackers.layers.surfaces import HitSets, SurfaceConfig, SurfaceTracker
from trackbench.trackers.layers.windows import grid_windows


@dataclass(frozen=True)
class Config(SurfaceConfig):
    """Options of the grid window, besides those of ``SurfaceConfig``. Lengths in mm.

    barrel_window_u, barrel_window_w: window in the barrel; endcap_window: side of the square on the discs
    barrel_stride_u, barrel_stride_w, endcap_stride: distance of windows; = window: disjoint, never larger
    min_hits: windows with fewer hits are dropped
    """

    barrel_window_u: float = 16.0
    barrel_window_w: float = 48.0
    barrel_stride_u: float = 16.0
    barrel_stride_w: float = 48.0
    endcap_window: float = 5.0
    endcap_stride: float = 5.0
    min_hits: int = 3

    def __post_init__(self):
        super().__post_init__()
        self.require_positive("min_hits")
        for name in ("barrel_{}_u", "barrel_{}_w", "endcap_{}"):
            window, stride = name.format("window"), name.format("stride")
            self.require_positive(window, stride)
            limit = getattr(self, window)
            self.require(stride, getattr(self, stride) <= limit, f"at most {window} = {limit:g} mm")


class Tracker(SurfaceTracker):
    """Grid window per surface; the label of a hit is its fullest window."""

    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """Fullest window of each hit of one region."""
        return self._windows(uw, region)[1]

    def region_clusters(self, uw: np.ndarray, region: Region) -> HitSets:
        """All windows with enough hits, overlapping if the stride is smaller than the window."""
        return self._windows(uw, region)[0]

    def _windows(self, uw, region):
        config = self.config
        window, stride, period = (config.endcap_window,) * 2, (config.endcap_stride,) * 2, 0.0
        if region.barrel:
            window = (config.barrel_window_u, config.barrel_window_w)
            stride = (config.barrel_stride_u, config.barrel_stride_w)
            period = 2 * np.pi * config.barrel_radius
        return grid_windows(uw, window, stride, period, config.min_hits)
