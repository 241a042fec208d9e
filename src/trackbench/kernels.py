"""Compile all kernels of the library for the types that real events give, so that later processes only load them.

Numba compiles a kernel at its first call with new types and keeps the result on disk, beside the sources where these
can be written. Here each user of kernels is called once on a small event made up for that. One process does it: two
that store the same kernel for different types at the same moment may each keep the other's.
"""

import logging
import time
from collections.abc import Callable

import numpy as np

from trackbench.data.hits import Hits
from trackbench.geometry.detector import ALL_LAYERS, CURVATURE, PIXEL_VOLUMES
from trackbench.geometry.layers import layer_table

logger = logging.getLogger(__name__)

_N_TRACKS = 120
_SURFACE_TRACKERS = {"dbscan": {}, "density_peaks": {}, "iterative_window": {"barrel_margin_u": 1.0}}


def compile_kernels() -> dict[str, float]:
    """Call every compiled kernel of the library, one part after the other.

    Returns the CPU seconds of each part: what it calls that an earlier part called too is compiled already. Where all
    is on disk, from an earlier call, a few seconds in total.
    """
    full, labels = made_up_event()
    pixel = np.isin(full.volume_id, PIXEL_VOLUMES)
    parts: dict[str, Callable[[], object]] = {
        "helix_finder": lambda: _reconstruct("helix_finder", full.take(pixel)),
        "helix_finder, full detector": lambda: _reconstruct("helix_finder", full),
        "clean-up": lambda: _clean_up(full.take(pixel), labels[pixel]),
        "helix_hash": lambda: _reconstruct("helix_hash", full.take(pixel)),
        "surface clusterers": lambda: _surfaces(full.take(pixel)),
        "clustering of latent vectors": _latent,
        "csv": _csv,
    }
    seconds = {}
    for name, call in parts.items():
        start = time.process_time()
        call()
        seconds[name] = time.process_time() - start
        logger.info("kernels of %s: %.1f CPU s", name, seconds[name])
    return seconds


def made_up_event() -> tuple[Hits, np.ndarray]:
    """Return an event of helices from near the beam line on ideal layers of the full detector, and their numbers (n,).

    Every fourth starts 5 mm off the beam line. The event is the same each time.
    """
    rng, table = np.random.default_rng(0), layer_table()
    volume, layer, xyz, label = [], [], [], []
    for track in range(_N_TRACKS):
        phi, k, z0, eta = rng.uniform(-np.pi, np.pi), rng.uniform(-1, 1), rng.normal(0, 5), rng.uniform(-4, 4)
        cot = np.sinh(eta)
        start = 5.0 if track % 4 == 0 else 0.0  # along the normal of the track, hence d0
        r = np.where(table.barrel, table.position, (table.position - z0) / cot)
        z = np.where(table.barrel, z0 + cot * r, table.position)
        along = np.where(table.barrel, z, r)
        hit = np.flatnonzero((r > 30.0) & (along > table.low) & (along < table.high))
        azimuth = phi - np.arcsin(CURVATURE * k * r[hit]) + start / r[hit] + rng.normal(0.0, 0.01, hit.size) / r[hit]
        xyz.append(np.column_stack([r[hit] * np.cos(azimuth), r[hit] * np.sin(azimuth), z[hit]]))
        layers = np.array(ALL_LAYERS)[hit]
        volume.append(layers[:, 0])
        layer.append(layers[:, 1])
        label.append(np.full(hit.size, track))
    columns = [np.concatenate(column) for column in (xyz, volume, layer)]
    n = len(columns[0])
    return Hits(np.arange(1, n + 1), *columns, np.arange(1, n + 1), np.ones(n, dtype=bool)), np.concatenate(label)


def _reconstruct(name: str, hits: Hits, settings: dict | None = None) -> None:
    from trackbench.trackers.base import build_tracker

    build_tracker(name, settings).reconstruct(hits)


def _clean_up(hits: Hits, labels: np.ndarray) -> None:
    """Clean up candidates that are cut in two or have foreign hits, with all steps and with those of other settings."""
    from trackbench.fitting.cleanup import CleanUp, clean_up, fit_candidates

    cut = np.where(np.arange(labels.size) % 7 == 0, (labels + 1) % _N_TRACKS, labels)
    cut = np.where((labels % 5 == 0) & (hits.layer_id > 6), cut + _N_TRACKS, cut)
    for settings in (CleanUp(), CleanUp(drop_outliers=False, compete=False)):
        clean_up(hits, cut, settings)
    fit_candidates(hits, labels)


def _surfaces(hits: Hits) -> None:
    from trackbench.trackers.base import build_tracker

    for name, settings in _SURFACE_TRACKERS.items():
        tracker = build_tracker(name, settings)
        tracker.reconstruct(hits)
        tracker.clusters(hits)


def _latent() -> None:
    from trackbench.trackers.layers.latent_clustering import cluster_points

    points = np.random.default_rng(0).normal(size=(64, 4))
    cluster_points(points, "greedy_cosine", similarity=0.5, min_cluster_size=2, max_size=3)


def _csv() -> None:
    from trackbench.data.fastcsv import TYPES, parse_numbers

    parse_numbers(b"a,b,c\n1,2,0.5\n", 6, list(TYPES))
