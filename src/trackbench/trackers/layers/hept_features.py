"""What HEPTv2 is told about a hit: features, the coordinates its position MLPs see, and the angles that order hits.

Source: data preparation of HEPTv2 and HEPT (github.com/Graph-COM). Differs from it in: cell features are joined to
hits by the reader, never by position; "geometry" is an input of our own for events without cells.
"""

import numpy as np

from trackbench.data.hits import CELL_FEATURES, Hits
from trackbench.errors import InputError, describe
from trackbench.geometry.coordinates import azimuth, radius
from trackbench.geometry.detector import PIXEL_LAYERS, layer_index

PHI_OCTAVES = range(1, 7)  # sine and cosine of 2^k phi; k = 0 is among the plain features
ETA_OCTAVES = range(6)
N_FEATURES = {"published": 15, "geometry": 8 + 2 * len(PHI_OCTAVES) + 2 * len(ETA_OCTAVES) + len(PIXEL_LAYERS)}
N_POSITIONS = {"published": 6, "geometry": N_FEATURES["geometry"]}
SMALLEST_RADIUS = 1e-3  # [mm]; keeps hits on the beam line finite


def hit_angles(xyz: np.ndarray) -> np.ndarray:
    """Pseudorapidity and azimuth of hits, finite everywhere.

    xyz: (n, 3) [mm]
    Returns (n, 2) float64: eta, phi [rad] in (-pi, pi].
    """
    return np.stack([np.arcsinh(xyz[:, 2] / _safe_radius(xyz)), azimuth(xyz)], axis=1)


def hit_features(hits: Hits, inputs: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and coordinates of the hits of one event.

    inputs: "published" = r [m], phi/pi, z [m], eta, x/r^2 and y/r^2 [1/m], the ``CELL_FEATURES``, and a tenth of the
        layer's number; coordinates: eta, phi [rad], r [m], phi/pi, z [m], eta
        "geometry" = r/100, z/500, cos phi, sin phi, eta/2, 40 x/r^2, 40 y/r^2, theta (lengths in mm), sine and cosine
        of 2^k phi (k = 1-6) and of 2^k eta (k = 0-5), and the pixel layer as one of 18 (none for strips); coordinates:
        the same
    Returns (n, ``N_FEATURES[inputs]``) and (n, ``N_POSITIONS[inputs]``) float64.
    Raises InputError for "published" without cell features, ValueError for unknown inputs.
    """
    if inputs == "geometry":
        features = _geometry(hits)
        return features, features
    if inputs == "published":
        return _published(hits)
    raise ValueError(f"unknown inputs {inputs!r}, expected one of {', '.join(N_FEATURES)}")


def _safe_radius(xyz: np.ndarray) -> np.ndarray:
    return np.maximum(radius(xyz), SMALLEST_RADIUS)


def _published(hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    missing = [name for name in CELL_FEATURES if name not in hits.features]
    if missing:
        remedy = "prepare the data set with cell features, or set network.inputs to geometry"
        what = f"no feature {missing[0]}"
        raise InputError(describe(f"event {hits.event_id}", what, ", ".join(CELL_FEATURES), remedy))
    xyz, r = hits.xyz, _safe_radius(hits.xyz)
    eta, phi = hit_angles(xyz).T
    u, v = (1000.0 * xyz[:, :2] / r[:, None] ** 2).T
    place = [r / 1000.0, phi / np.pi, xyz[:, 2] / 1000.0]
    cells = [hits.features[name] for name in CELL_FEATURES]
    layer = layer_index(hits.volume_id, hits.layer_id) / 10.0
    return np.stack([*place, eta, u, v, *cells, layer], axis=1), np.stack([eta, phi, *place, eta], axis=1)


def _geometry(hits: Hits) -> np.ndarray:
    xyz, r = hits.xyz, _safe_radius(hits.xyz)
    eta, phi = hit_angles(xyz).T
    u, v = (40.0 * xyz[:, :2] / r[:, None] ** 2).T
    z = xyz[:, 2]
    plain = [r / 100.0, z / 500.0, np.cos(phi), np.sin(phi), eta / 2.0, u, v, np.arctan2(r, z)]
    turns = [2.0**k * phi for k in PHI_OCTAVES] + [2.0**k * eta for k in ETA_OCTAVES]
    waves = [wave(turn) for turn in turns for wave in (np.sin, np.cos)]
    layer = layer_index(hits.volume_id, hits.layer_id)
    one_hot = layer[:, None] == np.arange(len(PIXEL_LAYERS))
    return np.concatenate([np.stack(plain + waves, axis=1), one_hot], axis=1)
