"""DBSCAN on the projected hits: chains of hits with at least ``min_samples`` neighbours within eps.

Source: Ester et al., KDD 1996. Same labels as scikit-learn's DBSCAN, by a faster neighbour search on the
surface (``layers/density.py``). The defaults are tuned for double-majority
efficiency; for an attention mask see ``trackbench.surface_table``. In the barrel, DBSCAN percolates: a
few tenths of a mm more in eps join most hits to one cluster.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.geometry.projection import Region
from trackbench.trackers.layers.density import dbscan, surface_grid
from trackbench.trackers.layers.surfaces import SurfaceConfig, SurfaceTracker


@dataclass(frozen=True)
class Config(SurfaceConfig):
    """Options of DBSCAN, besides those of ``SurfaceConfig``.

    barrel_eps, endcap_eps: neighbourhood radius [mm]
    barrel_w_scale: divides w in the barrel: larger = more tolerant to the vertex position
    endcap_radial_scale: in (0, 1]; radial distances count 1 / scale times
    min_samples: hits within eps, the hit itself included, that make it a core hit
    """

    barrel_eps: float = 1.75
    barrel_w_scale: float = 2.0
    endcap_eps: float = 1.5
    endcap_radial_scale: float = 0.33
    min_samples: int = 3

    def __post_init__(self):
        super().__post_init__()
        self.require_positive("barrel_eps", "barrel_w_scale", "endcap_eps", "min_samples")
        self.require("endcap_radial_scale", 0 < self.endcap_radial_scale <= 1, "in (0, 1]")


class Tracker(SurfaceTracker):
    """DBSCAN per surface."""

    environment: ClassVar[str] = "cluster"
    search_space: ClassVar[dict[str, tuple]] = {
        "barrel_eps": (1.25, 1.5, 1.75, 2.0),
        "barrel_w_scale": (1.0, 2.0, 3.0),
        "endcap_eps": (1.0, 1.25, 1.5, 1.75),
        "endcap_radial_scale": (0.25, 0.33, 0.5),
    }
    search_groups: ClassVar = (("barrel_eps", "barrel_w_scale"), ("endcap_eps", "endcap_radial_scale"))

    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """DBSCAN labels of one region. Cost O(n m) for m hits within eps of a hit."""
        eps = self.config.barrel_eps if region.barrel else self.config.endcap_eps
        grid = surface_grid(self.embed(uw, region), region.barrel, eps)
        return dbscan(grid, eps, self.config.min_samples)
