"""Primary vertices from the z0 of fitted tracks: a density along the beam, cut at its valleys.

At 200 pile-up with sigma_z = 5.5 mm vertices lie 0.08 mm apart, closer than the error of most z0: many are
merged, whatever the method. With few collisions or a long beam spot the list is close to complete. There is
no vertex fit: positions are weighted means of z0, good enough to count and compare vertices.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.data.tracks import TrackParameters
from trackbench.errors import ConfigError, describe

_REACH = 4.0  # a track adds to the density this many of its errors away
_CHUNK = 1 << 22  # terms of the density summed at a time, bounds the memory


@dataclass(frozen=True)
class VertexSettings:
    """Which tracks make vertices, and when two vertices are told apart.

    min_tracks: smallest number of tracks of a vertex
    max_d0_pull: tracks with a larger |d0| / error are left out, secondaries in the first place
    beam_width: spread of the vertices across the beam [mm], added to the error of d0
    max_sigma_z: tracks with a larger error of z0 [mm] are left out
    valley: two maxima are two vertices if the density between them falls below this share of the lower one
    max_z_pull: a track further from its vertex, in errors of z0, belongs to none
    Raises ConfigError for a value out of range.
    """

    min_tracks: int = 2
    max_d0_pull: float = 4.0
    beam_width: float = 0.015
    max_sigma_z: float = 1.0
    valley: float = 0.8
    max_z_pull: float = 4.0

    def __post_init__(self):
        if self.min_tracks < 1:
            raise _bad("min_tracks", self.min_tracks, "an integer >= 1")
        for name in ("max_d0_pull", "max_sigma_z", "max_z_pull"):
            if not getattr(self, name) > 0:
                raise _bad(name, getattr(self, name), "a number > 0")
        if not self.beam_width >= 0:
            raise _bad("beam_width", self.beam_width, "a number >= 0")
        if not 0 < self.valley <= 1:
            raise _bad("valley", self.valley, "a number in (0, 1]")


@dataclass(frozen=True)
class Vertices:
    """Vertices of one event, ascending in z, and the vertex of each of m tracks.

    z: (k,) position along the beam [mm]; sigma_z: (k,) its error [mm]; n_tracks: (k,) int64
    label: (m,) int64, index of the vertex of each track, -1 = none
    """

    z: np.ndarray
    sigma_z: np.ndarray
    n_tracks: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.z)

    def to_frame(self, event_id: int) -> pd.DataFrame:
        """Return a table ``event_id z sigma_z n_tracks``, one row per vertex."""
        event = np.full(len(self), event_id, dtype=np.int64)
        return pd.DataFrame({"event_id": event, "z": self.z, "sigma_z": self.sigma_z, "n_tracks": self.n_tracks})


def find_vertices(parameters: TrackParameters, settings: VertexSettings | None = None) -> Vertices:
    """Group tracks that come from the beam into vertices along z.

    The density is the sum of one normalised Gaussian per track, as wide as its error, so that precise
    tracks decide where the vertices are. Valleys of the density separate groups; the position of a
    group is the mean of z0 weighted with 1 / error^2, once before and once after tracks too far from it are
    taken out. Tracks whose d0, z0 or errors are not finite belong to no vertex.
    """
    settings = settings or VertexSettings()
    names = ("d0", "z0", "cov_d0_d0", "cov_z0_z0")
    d0, z0, var_d, var_z = parameters.to_frame(0)[list(names)].to_numpy().T
    d0_error = np.sqrt(np.maximum(var_d, 0) + settings.beam_width**2)
    usable = np.isfinite(z0) & (var_z > 0) & (var_z <= settings.max_sigma_z**2)
    usable &= np.abs(d0) <= settings.max_d0_pull * d0_error  # False for NaN
    index = np.flatnonzero(usable)
    index = index[np.argsort(z0[index], kind="stable")]
    z0, sigma = z0[index], np.sqrt(var_z[index])
    group = _split_at_valleys(z0, sigma, settings.valley)
    mean, error, _ = _weighted_means(z0, sigma, group)
    far = np.abs(z0 - mean[group]) > settings.max_z_pull * np.hypot(sigma, error[group])
    mean, error, count = _weighted_means(z0, sigma, np.where(far, -1, group), len(mean))
    large = count >= settings.min_tracks
    order = np.flatnonzero(large)[np.argsort(mean[large], kind="stable")]
    number = np.full(len(mean), -1, dtype=np.int64)
    number[order] = np.arange(order.size)
    label = np.full(len(parameters), -1, dtype=np.int64)
    label[index] = np.where(far, -1, number[group])
    return Vertices(mean[order], error[order], count[order], label)


def _weighted_means(
    z: np.ndarray, sigma: np.ndarray, group: np.ndarray, n_groups: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of z weighted with 1 / sigma^2, its error and the number of tracks per group; group -1 is left out."""
    n_groups = int(group.max(initial=-1)) + 1 if n_groups is None else n_groups
    inside = group >= 0
    group, weight = group[inside], sigma[inside] ** -2.0
    total = np.bincount(group, weight, n_groups)
    safe = np.where(total > 0, total, 1.0)
    mean = np.bincount(group, weight * z[inside], n_groups) / safe
    return mean, safe**-0.5, np.bincount(group, minlength=n_groups)


def _split_at_valleys(z: np.ndarray, sigma: np.ndarray, valley: float) -> np.ndarray:
    """Number the groups of ascending z, (m,) int64: a new one starts after each valley of the density.

    The density is looked at on the tracks and half way between neighbours.
    """
    if not z.size:
        return np.zeros(0, dtype=np.int64)
    points = np.empty(2 * z.size - 1)
    points[::2], points[1::2] = z, (z[1:] + z[:-1]) / 2
    valleys = np.array(_valleys(_density(points, z, sigma), valley), dtype=np.int64)
    # A valley on a track gives the track to the group on its right.
    return np.searchsorted(valleys, 2 * np.arange(z.size), side="right").astype(np.int64)


def _density(points: np.ndarray, z: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Sum of the normalised Gaussians of the tracks at ascending points, cut off at ``_REACH`` errors."""
    first = np.searchsorted(points, z - _REACH * sigma)
    counts = np.searchsorted(points, z + _REACH * sigma, side="right") - first
    density = np.zeros(points.size)
    chunk = np.cumsum(counts) // _CHUNK
    for tracks in np.split(np.arange(z.size), np.flatnonzero(np.diff(chunk)) + 1):
        n = counts[tracks]
        track = np.repeat(tracks, n)
        point = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + first[track]
        height = np.exp(-0.5 * ((points[point] - z[track]) / sigma[track]) ** 2) / sigma[track]
        density += np.bincount(point, height, points.size)
    return density / np.sqrt(2 * np.pi)


def _valleys(density: np.ndarray, valley: float) -> list[int]:
    """Positions of the minima that lie below ``valley`` times the maxima on both their sides."""
    found = []
    peak, low, where = density[0], np.inf, 0  # low: smallest value since the peak, inf = still at the peak
    for i, value in enumerate(density.tolist()):
        if value < low and value < valley * peak:
            low, where = value, i
        elif low < valley * value:
            found.append(where)
            peak, low = value, np.inf
        elif low == np.inf:
            peak = max(peak, value)
    return found


def _bad(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(describe(f"vertices.{name}", f"value {value!r} is not allowed", expected))
