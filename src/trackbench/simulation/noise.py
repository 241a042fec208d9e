"""Noise hits: no particle, uniform on the modules, distributed over the layers as in real TrackML data."""

import numpy as np

from trackbench.simulation.digitisation import Modules

# Noise hits per layer (2, 4, 6, ...) of each volume in the public sample event of TrackML.
LAYER_COUNTS = {
    7: (11, 5, 6, 7, 2, 5, 1),
    8: (8, 12, 30, 32),
    9: (3, 5, 6, 3, 7, 4, 5),
    12: (7, 10, 7, 3, 13, 14),
    13: (39, 55, 61, 91),
    14: (2, 9, 12, 9, 9, 8),
    16: (6, 4, 3, 3, 6, 2),
    17: (122, 144),
    18: (5, 7, 8, 7, 4, 7),
}


def noise_hits(
    modules: Modules, n_true: int, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw Poisson noise hits so that on average ``fraction`` of all hits are noise.

    n_true: true hits of the event
    Returns (k,) int rows of the detector table, (k, 3) positions [mm], (k, 3) directions: uniform over the
    modules of a layer by area, uniform on the module, isotropic.
    """
    n = int(rng.poisson(n_true * fraction / (1.0 - fraction)))
    layers = [(volume, 2 * i + 2, k) for volume, counts in LAYER_COUNTS.items() for i, k in enumerate(counts)]
    share = np.array([k for _, _, k in layers], dtype=np.float64)
    chosen = [np.zeros(0, dtype=np.int64)]
    half_u, half_v = modules.half.T
    area = (half_u + modules.min_half_u) * half_v
    for (volume, layer, _), k in zip(layers, rng.multinomial(n, share / share.sum()), strict=True):
        rows = np.flatnonzero((modules.volume_id == volume) & (modules.layer_id == layer))
        chosen.append(rng.choice(rows, k, p=area[rows] / area[rows].sum()))
    module = np.concatenate(chosen)
    v = rng.uniform(-1.0, 1.0, n) * half_v[module]
    low, high = modules.min_half_u[module], half_u[module]
    width = low + (high - low) * (v / half_v[module] + 1.0) / 2.0  # trapezoid: half length in u at this v
    u = rng.uniform(-1.0, 1.0, n) * width
    return module, modules.to_global(module, np.stack([u, v], axis=1)), rng.normal(size=(n, 3))
