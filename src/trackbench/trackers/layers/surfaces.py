"""What the surface-projection trackers share: project each pixel region, cluster it, merge the labels.

Barrel (volume 8) and both endcaps (7, 9) are clustered one by one. Each tracker can be used in two ways:
``reconstruct`` gives every pixel hit at most one label (a track finder), ``clusters`` gives hit sets that
may overlap (an attention mask).
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import require
from trackbench.geometry.projection import BARREL_RADIUS, DISC_Z, REGIONS, Region, embed_cylinder, embed_disc, project
from trackbench.trackers.base import Timer, TrackerBase

# A family of hit sets: members[offsets[i] : offsets[i + 1]] are the hits of set i.
HitSets = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SurfaceConfig:
    """The surfaces, for every tracker of this family.

    barrel_radius: radius of the barrel cylinder [mm]
    disc_z: distance of the endcap planes [mm]
    z0: point on the beam line to project from [mm]
    """

    barrel_radius: float = BARREL_RADIUS
    disc_z: float = DISC_Z
    z0: float = 0.0

    def __post_init__(self):
        self.require("barrel_radius", self.barrel_radius > 0, "> 0 mm")
        self.require("disc_z", self.disc_z > abs(self.z0), "> |z0| mm")

    def require(self, name: str, good: bool, expected: str) -> None:
        """Raise ConfigError about option ``name`` unless ``good``."""
        module = type(self).__module__.rpartition(".")[2]
        require(f"trackers.{module}.{name}", getattr(self, name), good, expected)

    def require_positive(self, *names: str) -> None:
        """Raise ConfigError unless all the options are finite and > 0."""
        for name in names:
            self.require(name, bool(0 < getattr(self, name) < np.inf), "a number > 0")


class SurfaceTracker(TrackerBase):
    """Base class: subclasses implement ``label_region`` and, if their sets overlap, ``region_clusters``."""

    # Options that act on different hits: ``tune`` searches one group after another instead of all products.
    search_groups: ClassVar[tuple[tuple[str, ...], ...]] = ()

    @abstractmethod
    def label_region(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """Cluster the projected hits of one region, sorted by hit_id, at least one.

        uw: (n, 2) position on the surface [mm]
        Returns (n,) int: one label per hit, negative = unassigned.
        """

    def region_clusters(self, uw: np.ndarray, region: Region) -> HitSets:
        """Hit sets of one region, possibly overlapping; by default those of ``label_region``."""
        return sets_of_labels(self.label_region(uw, region))

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Label the pixel hits region by region; hits elsewhere stay -1."""
        labels = np.full(len(hits), -1, dtype=np.int64)
        n_found = 0
        for region, index in self._regions(hits):
            with timer.stage("features"):
                uw = self._project(hits, index, region)
            with timer.stage("clustering"):
                found = np.asarray(self.label_region(uw, region), dtype=np.int64)
            labels[index] = np.where(found >= 0, found + n_found, -1)
            n_found += max(int(found.max()) + 1, 0)
        return labels

    def clusters(self, hits: Hits) -> dict[str, HitSets]:
        """Hit sets per region, as for an attention mask.

        hits: the hits of one event, any order, padding allowed
        Returns region name -> (offsets, members): (k + 1,) and (m,) int64; members are rows of ``hits``,
        sorted within a set by hit_id. Regions without hits are left out.
        """
        order = np.flatnonzero(hits.valid)
        order = order[np.argsort(hits.hit_id[order], kind="stable")]
        real = hits.take(order)
        found = {}
        for region, index in self._regions(real):
            offsets, members = self.region_clusters(self._project(real, index, region), region)
            found[region.name] = (offsets, order[index[members]])
        return found

    def _regions(self, hits: Hits) -> Iterator[tuple[Region, np.ndarray]]:
        for region in REGIONS:
            index = np.flatnonzero(hits.volume_id == region.volume)
            if index.size:
                yield region, index

    def _project(self, hits: Hits, index: np.ndarray, region: Region) -> np.ndarray:
        config = self.config
        return project(hits.xyz[index], region, config.barrel_radius, config.disc_z, config.z0)

    def embed(self, uw: np.ndarray, region: Region) -> np.ndarray:
        """Euclidean coordinates with the options ``barrel_w_scale`` and ``endcap_radial_scale``. (n, 3) [mm]."""
        if region.barrel:
            return embed_cylinder(uw, self.config.barrel_radius, self.config.barrel_w_scale)
        return embed_disc(uw, self.config.endcap_radial_scale)


def sets_of_labels(labels: np.ndarray) -> HitSets:
    """Turn labels into hit sets. labels: (n,) int, negative = in no set. Returns (offsets, members) int64."""
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    order = order[np.count_nonzero(labels < 0) :]
    _, counts = np.unique(labels[order], return_counts=True)
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), order.astype(np.int64)
