"""Helix-hash scan: no training, no seeds; every (curvature, vertex) hypothesis hashes all hits at once.

If q/pT and the vertex z0 of a particle are known, each of its hits gives the same azimuth phi0 and
pseudorapidity eta0 at the origin. So: for each hypothesis of a grid, compute (phi0, eta0) of all hits,
put them into bins, and let every hit remember the best bin it ever was in. Hits that remember the same
bin are a track candidate. Long candidates are frozen and the rest is scanned again.

The grid must cover the beam spot: the default ``z0_max`` = 16 mm is about 3 sigma_z for sigma_z =
5.5 mm. For sigma_z = 55 mm use z0_max = 130 to 160; time grows in proportion and more chance
candidates are found. The other settings are for pixel hits. At the radius of the strips the step
between two curvatures is wider than a bin: in the full detector use ``n_curvatures`` of 50 to 100.

Three hits agree by chance more often than they are a track: at mu = 200 a third of all candidates are
mixtures (of those led by a particle with pT > 0.9 GeV about 1 %). ``min_hits`` = 4 removes most of them
and loses the tracks with three hits.

The score of a bin is, in the manner of a chi-square, what its hits say for a track minus how badly
they agree: ``layers + extra_hit_score * (hits - layers) - spread_penalty * spread``, where spread is the
sum of squared distances of the hits from their mean in units of the bin widths. Without the spread
term, bins that caught a foreign hit win ties against the bin of the true helix.

The idea is the Hough transform in the form of hashing (P. V. C. Hough, US patent 3069654, 1962); score
and binning are our own.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, describe
from trackbench.geometry.coordinates import azimuth, radius
from trackbench.geometry.detector import CURVATURE, layer_index
from trackbench.trackers.base import Timer, TrackerBase

_ETA_MAX = 6.0  # hits beyond share the outermost bins
_TABLE_POINTS = 2048
_MIN_PATH = 1e-9  # keeps z/(path + |z|) finite for a hit on the beam line at the vertex [mm]


@dataclass(frozen=True)
class Config:
    """Settings of the scan.

    n_curvatures, curvature_max: grid of q/pT in +-curvature_max [1/GeV]; 1.15 finds pT > 0.87 GeV
    z0_max, z0_step: grid of vertex positions in +-z0_max [mm]; z0_max about 3 sigma_z of the beam spot
    phi_bin: width of the azimuth bins [rad]
    eta_bin, eta_bin_slope: width of the pseudorapidity bins, eta_bin + eta_bin_slope * |eta|
    extra_hit_score: score of a hit on a layer that has one already (1 for the first); overlapping
        modules make such hits
    spread_penalty: weight of the spread in the score [1 / squared bin width]
    max_hits: cells with more hits are ignored
    min_hits: smallest number of hits of a candidate, and of layers of a cell
    passes: number of scans; candidates are frozen after each, and only the other hits scanned again
    freeze_hits: smallest number of hits to be frozen after the first scan, one less after each
        following one; after the last scan it is min_hits
    """

    n_curvatures: int = 25
    curvature_max: float = 1.15
    z0_max: float = 16.0
    z0_step: float = 1.0
    phi_bin: float = 0.008
    eta_bin: float = 0.016
    eta_bin_slope: float = 0.008
    extra_hit_score: float = 0.3
    spread_penalty: float = 4.0
    max_hits: int = 20
    min_hits: int = 3
    passes: int = 3
    freeze_hits: int = 5

    def __post_init__(self):
        ranges = {
            "n_curvatures": (1, 1000),
            "curvature_max": (0.0, 10.0),
            "z0_max": (0.0, 1000.0),
            "z0_step": (0.01, 1000.0),
            "phi_bin": (0.0005, 1.0),
            "eta_bin": (0.0005, 1.0),
            "eta_bin_slope": (0.0005, 1.0),
            "extra_hit_score": (-1.0, 1.0),
            "spread_penalty": (0.0, 1000.0),
            "max_hits": (3, 10000),
            "min_hits": (2, 48),
            "passes": (1, 20),
            "freeze_hits": (2, 48),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(describe(f"trackers.helix_hash.{name}", f"value {value}", f"{low} to {high}"))


def helix_coordinates(phi: np.ndarray, r: np.ndarray, curvature: float) -> tuple[np.ndarray, np.ndarray]:
    """Follow each hit back to the beam line along a helix of the given curvature.

    phi, r: (n,) azimuth [rad] and transverse radius [mm] of the hits; curvature: q/pT [1/GeV]
    Returns phi0 (n,), azimuth of the track at the beam line [rad], not wrapped, and s (n,), transverse
    path length [mm]. Hits the helix cannot reach are taken at its turning point.
    With the field along +z a positive particle turns to smaller phi, hence the plus sign.
    """
    x = np.clip(CURVATURE * curvature * r, -1.0, 1.0)
    turn = np.arcsin(x)
    # arcsin(x)/x -> 1 for straight tracks; below 1e-8 the quotient is 1 to machine precision.
    straight = np.abs(x) < 1e-8
    return phi + turn, r * np.where(straight, 1.0, turn / np.where(straight, 1.0, x))


def eta_bin_table(width: float, slope: float) -> tuple[np.ndarray, int]:
    """Tabulate the pseudorapidity bin of a hit as a function of w = dz / (s + |dz|), s and dz = z - z0 [mm].

    Bins have the width ``width + slope * |eta|``, so the bin coordinate is its inverse integrated,
    sign(eta) ln(1 + |eta| slope / width) / slope. The table spares an arcsinh and a logarithm per hit
    and hypothesis; w maps all directions to [-1, 1] with one division.
    Returns (n_points + 2,) bin coordinates >= 0 for equidistant w (last value twice, so that w = 1 can
    be interpolated) and the number of bins including one for the random offset.
    """
    w = np.linspace(-1.0, 1.0, _TABLE_POINTS + 1)
    cot_theta = np.abs(w) / np.maximum(1.0 - np.abs(w), 1e-9)
    eta = np.minimum(np.arcsinh(cot_theta), _ETA_MAX)
    coordinate = np.sign(w) * np.log1p(eta * slope / width) / slope
    coordinate -= coordinate[0]
    return np.append(coordinate, coordinate[-1]), int(coordinate[-1]) + 2


def cell_scores(extra_hit_score: float, min_layers: int, max_hits: int, n_layers: int) -> np.ndarray:
    """Score of a cell before the spread penalty, by number of distinct layers and of hits.

    Returns (n_layers + 1, max_hits + 1) float64, -1 where a cell is no candidate.
    """
    layers, hits = np.arange(n_layers + 1)[:, None], np.arange(max_hits + 1)[None, :]
    return np.where(layers >= min_layers, layers + extra_hit_score * (hits - layers), -1.0)


class Tracker(TrackerBase):
    """Scan all hypotheses, freeze long candidates, scan the rest again (see the module's text)."""

    environment: ClassVar[str] = "cluster"

    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray:
        """Return one label per hit, -1 for hits in no candidate and on unknown layers."""
        labels = np.full(len(hits), -1, dtype=np.int64)
        with timer.stage("features"):
            layer = layer_index(hits.volume_id, hits.layer_id)
            phi = azimuth(hits.xyz)
            usable = np.flatnonzero(layer >= 0)
            free = usable[np.argsort(phi[usable], kind="stable")]
            r, z = radius(hits.xyz), hits.xyz[:, 2]
        with timer.stage("clustering"):
            n_found = 0
            for number in range(self.config.passes):
                found = self._scan(phi[free], r[free], z[free], layer[free], number)
                found = _drop_short(found, self._smallest_candidate(number))
                labels[free[found >= 0]] = n_found + found[found >= 0]
                n_found += found.max(initial=-1) + 1
                free = free[found < 0]
        return labels

    def _smallest_candidate(self, number: int) -> int:
        if number == self.config.passes - 1:
            return self.config.min_hits
        return max(self.config.min_hits, self.config.freeze_hits - number)

    def _bins(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the table of the polar bins and the number of bins in azimuth and polar direction."""
        eta_bin, n_eta = eta_bin_table(self.config.eta_bin, self.config.eta_bin_slope)
        return eta_bin, (max(1, round(2 * np.pi / self.config.phi_bin)), n_eta)

    def _hypotheses(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return curvatures (m,), z0 (k,) and bin offsets (m, k, 2) of pass ``number``."""
        config = self.config
        curvatures = np.linspace(-config.curvature_max, config.curvature_max, config.n_curvatures)
        z0 = np.arange(-config.z0_max, config.z0_max + 1e-9, config.z0_step)
        # Random bin edges: a track cut by an edge under one hypothesis is whole under its neighbour.
        offset = np.random.default_rng([self.seed, number]).random((curvatures.size, z0.size, 2))
        return curvatures, z0, offset

    def _scan(self, phi: np.ndarray, r: np.ndarray, z: np.ndarray, layer: np.ndarray, number: int) -> np.ndarray:
        """Scan the hits once. phi, r, z, layer: (n,), sorted by phi; number: of the pass.

        Returns (n,) int64, the best cell of every hit, -1 = none.
        """
        from trackbench.trackers.layers import helix_hash_kernels as kernels

        config = self.config
        curvatures, z0, offset = self._hypotheses(number)
        eta_bin, (n_phi, n_eta) = self._bins()
        score = cell_scores(config.extra_hit_score, config.min_hits, config.max_hits, kernels.LAYER_BITS)
        tables = kernels.Tables(eta_bin, score, config.spread_penalty)
        cells = kernels.empty_cells(n_phi, n_eta, len(phi))
        best = kernels.Best(np.zeros(len(phi)), np.full(len(phi), -1, dtype=np.int64))
        layer_bit = np.uint64(1) << layer.astype(np.uint64)
        for i, curvature in enumerate(curvatures):
            phi0, path = helix_coordinates(phi, r, curvature)
            phi_bin = np.mod(phi0, 2 * np.pi) * (n_phi / (2 * np.pi))
            hits = kernels.HitArrays(phi_bin, path + _MIN_PATH, z, layer_bit)
            first_label = i * z0.size * n_phi * n_eta
            kernels.scan_vertices(hits, kernels.Hypotheses(z0, offset[i]), tables, cells, first_label, best)
        return best.label


def _drop_short(found: np.ndarray, min_hits: int) -> np.ndarray:
    """Renumber candidates 0, 1, ... and set hits of those with fewer than min_hits hits to -1."""
    _, inverse, count = np.unique(found, return_inverse=True, return_counts=True)
    kept = (found >= 0) & (count[inverse] >= min_hits)
    result = np.full(found.size, -1, dtype=np.int64)
    result[kept] = np.unique(inverse[kept], return_inverse=True)[1]
    return result
