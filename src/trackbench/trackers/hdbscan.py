"""HDBSCAN on the projected hits: density clustering without a fixed neighbourhood radius.

Source: Campello et al., PAKDD 2013; implementation: the hdbscan package (McInnes et al., JOSS 2, 205).
The defaults are tuned for double-majority efficiency.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.geometry.projection import Region
from trackbench.trackers.layers.surfaces import SurfaceConfig, SurfaceTracker


@dataclass(frozen=True)
class Config(SurfaceConfig):
    """Options of HDBSCAN, besides those of ``SurfaceConfig``.

    barrel_min_cluster_size, endcap_min_cluster_size: hits a cluster must have to count as one
    barrel_min_samples, endcap_min_samples: larger = more hits become noise
    barrel_selection, endcap_selection: "leaf" (many small clusters) or "eom" (the most stable ones)
    barrel_w_scale: divides w in the barrel: larger = more tolerant to the vertex position
    endcap_radial_scale: in (0, 1]; radial distances count 1 / scale times
    """

    barrel_min_cluster_size: int = 3
    barrel_min_samples: int = 1
    barrel_selection: str = "leaf"
    barrel_w_scale: float = 2.0
    endcap_min_cluster_size: int = 4
    endcap_min_samples: int = 2
    endcap_selection: str = "eom"
    endcap_radial_scale: float = 0.33

    def __post_init__(self):
        super().__post_init__()
        self.require_positive("barrel_min_samples", "endcap_min_samples", "barrel_w_scale")
        self.require("endcap_radial_scale", 0 < self.endcap_radial_scale <= 1, "in (0, 1]")
        for name in ("barrel_min_cluster_size", "endcap_min_cluster_size"):
            self.require(name, getattr(self, name) >= 2, ">= 2")
        for name in ("barrel_selection", "endcap_selection"):
            self.require(name, getattr(self, name) in ("leaf", "eom"), "'leaf' or 'eom'")


class Tracker(SurfaceTracker):
    """HDBSCAN per surface."""

    environment: ClassVar[str] = "cluster"
    search_space: ClassVar[dict[str, tuple]] = {
        "barrel_w_scale": (1.0, 2.0, 3.0),
        "endcap_min_cluster_size": (3, 4, 5),
    }
    search_groups: ClassVar = (("barrel_w_scale",), ("endcap_min_cluster_size",))

    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """HDBSCAN labels of one region. Cost about O(n log n)."""
        part = "barrel" if region.barrel else "endcap"
        size = getattr(self.config, f"{part}_min_cluster_size")
        samples = getattr(self.config, f"{part}_min_samples")
        if len(uw) <= max(size, samples):
            # The package needs more points than either number; so few hits are no sample to cluster.
            return np.full(len(uw), -1)
        from hdbscan import HDBSCAN

        model = HDBSCAN(
            min_cluster_size=size,
            min_samples=samples,
            cluster_selection_method=getattr(self.config, f"{part}_selection"),
            algorithm="boruvka_kdtree",
            core_dist_n_jobs=1,  # one thread, so that times compare
        )
        return model.fit(self.embed(uw, region)).labels_
