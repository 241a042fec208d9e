"""Density peaks on the projected hits: follow the nearest denser hit up to a peak.

Source: Rodriguez and Laio, Science 344 (2014) 1492. Differs from it in: density counts hits within d_c
including the hit itself, ties are broken by hit_id, peaks are hits without a denser hit within delta
(no decision graph), and there is no halo.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.geometry.projection import Region
from trackbench.trackers.layers.density import density_peaks, surface_grid
from trackbench.trackers.layers.surfaces import SurfaceConfig, SurfaceTracker


@dataclass(frozen=True)
class Config(SurfaceConfig):
    """Options of density peaks, besides those of ``SurfaceConfig``.

    barrel_d_c, endcap_d_c: the density of a hit is the number of hits within d_c [mm]
    barrel_delta, endcap_delta: a hit without a denser hit within delta is a peak [mm]
    barrel_w_scale: divides w in the barrel: larger = more tolerant to the vertex position
    endcap_radial_scale: in (0, 1]; radial distances count 1 / scale times
    min_density: a peak below this density is noise, with all that follow it; 1 = no noise
    """

    barrel_d_c: float = 1.0
    barrel_delta: float = 2.0
    barrel_w_scale: float = 2.0
    endcap_d_c: float = 0.5
    endcap_delta: float = 1.5
    endcap_radial_scale: float = 0.5
    min_density: int = 1

    def __post_init__(self):
        super().__post_init__()
        self.require_positive("barrel_d_c", "barrel_delta", "barrel_w_scale", "endcap_d_c", "endcap_delta")
        self.require_positive("min_density")
        self.require("endcap_radial_scale", 0 < self.endcap_radial_scale <= 1, "in (0, 1]")


class Tracker(SurfaceTracker):
    """Density peaks per surface."""

    environment: ClassVar[str] = "cluster"
    search_space: ClassVar[dict[str, tuple]] = {
        "barrel_d_c": (0.5, 1.0, 1.5),
        "barrel_delta": (1.5, 2.0, 3.0),
        "barrel_w_scale": (1.0, 2.0, 3.0),
        "endcap_d_c": (0.5, 0.7),
        "endcap_delta": (1.0, 1.5, 2.0),
        "endcap_radial_scale": (0.33, 0.5),
    }
    search_groups: ClassVar = (
        ("barrel_d_c", "barrel_delta", "barrel_w_scale"),
        ("endcap_d_c", "endcap_delta", "endcap_radial_scale"),
    )

    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """Density-peak labels of one region. Cost O(n m) for m hits within max(d_c, delta) of a hit."""
        config = self.config
        d_c, delta = config.endcap_d_c, config.endcap_delta
        if region.barrel:
            d_c, delta = config.barrel_d_c, config.barrel_delta
        grid = surface_grid(self.embed(uw, region), region.barrel, max(d_c, delta))
        return density_peaks(grid, d_c, delta, config.min_density)
