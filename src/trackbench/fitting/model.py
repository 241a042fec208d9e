"""The numbers behind the fit: resolution and material per volume, and hits brought into the kernels' form.

The values come from simulated events (``trackbench simulate``, seed 301) and their truth: distance of hits from
the true crossing, change of the direction of particles between successive layers (Highland formula), then
adjusted, the barrel's material most (-30 %), so that the pulls of prompt tracks have width 1. In the one real
thinned TrackML event pixel resolutions agree within 25 %; its material looks thinner in the barrel and thicker in
the disks, where its field is not uniform.
"""

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import InputError, describe
from trackbench.geometry.detector import ALL_LAYERS, PIXEL_LAYERS, layer_index
from trackbench.geometry.layers import layer_table

# volume -> (resolution along azimuth [mm], along z or radius for a cluster of one cell [mm], radiation lengths at
# normal incidence)
_VOLUMES = {
    7: (0.018, 0.0162, 0.0056),
    8: (0.0095, 0.0162, 0.0088),
    9: (0.018, 0.0162, 0.0056),
    12: (0.038, 0.30, 0.018),
    13: (0.017, 0.26, 0.0125),
    14: (0.038, 0.30, 0.018),
    16: (0.60, 2.9, 0.048),
    17: (0.025, 3.1, 0.023),
    18: (0.60, 2.9, 0.048),
}
_PIXEL_SHARING = 5.3  # sensor thickness 0.3 mm / pitch 0.05625 mm: cells along z or radius at slope 1
# While hits are being assigned: found together with the constants of ``trackers.helix_finder``, for what tells
# tracks from chance candidates best; wider along the barrel, where short clusters are not Gaussian.
_SEARCH_VOLUMES = {
    7: (0.0174, 0.018, 0.0038),
    8: (0.012, 0.02, 0.0116),
    9: (0.0174, 0.018, 0.0038),
    **{volume: values for volume, values in _VOLUMES.items() if volume > 9},
}
BEAM_PIPE = 0.0012  # radiation lengths
N_PIXEL_LAYERS = len(PIXEL_LAYERS)
# Hits of misaligned or bent modules may lie outside the nominal layer by this much [mm].
_TOLERANCE = 5.0


def detector_layers(pixel_only: bool, search: bool = False):
    """Return the ``tables.Layers`` of the pixel detector or of the whole one.

    search: with the resolutions and the material used while hits are being assigned, not the measured ones
    """
    from trackbench.fitting.tables import Layers

    table = layer_table()
    shape = (table.barrel, table.position, table.half_depth, table.low, table.high)
    volumes = _SEARCH_VOLUMES if search else _VOLUMES
    sigma_t, sigma_l, thickness = np.array([volumes[volume] for volume, _ in ALL_LAYERS]).T
    sharing = np.zeros(len(ALL_LAYERS))
    if not search:
        sharing[:N_PIXEL_LAYERS] = _PIXEL_SHARING
    n = N_PIXEL_LAYERS if pixel_only else len(ALL_LAYERS)
    return Layers(*(column[:n].copy() for column in (*shape, thickness, sigma_t, sigma_l, sharing)))


def sort_hits(hits: Hits):
    """Bring hits into the form of the kernels.

    hits: valid hits of one event
    Returns the order (n,) int64, so that ``hits.take(order)`` are the sorted hits, and ``tables.SortedHits``.
    Raises InputError for a hit on an unknown layer, one far from its layer, or one on the beam line.
    """
    from trackbench.fitting.tables import SortedHits

    layer = layer_index(hits.volume_id, hits.layer_id)
    x, y, z = hits.xyz.T
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    _check_layers(hits, layer, r, z)
    n_layers = N_PIXEL_LAYERS if layer.max(initial=0) < N_PIXEL_LAYERS else len(ALL_LAYERS)
    order = np.lexsort((phi, layer))
    layer, r, z = layer[order], r[order], z[order]
    v = np.where(layer_table().barrel[layer], z, r)
    by_v = np.lexsort((v, layer))
    first = np.searchsorted(layer, np.arange(n_layers + 1))
    return order, SortedHits(r, phi[order], z, layer, first, by_v, v[by_v])


def _check_layers(hits: Hits, layer: np.ndarray, r: np.ndarray, z: np.ndarray) -> None:
    where = f"event {hits.event_id}"
    remedy = "this tracker knows the TrackML detector only"
    unknown = np.flatnonzero(layer < 0)
    if unknown.size:
        row = unknown[0]
        found = f"volume {hits.volume_id[row]}, layer {hits.layer_id[row]}"
        what = f"{unknown.size} hits on unknown layers (first hit_id {hits.hit_id[row]}: {found})"
        raise InputError(describe(where, what, "layers of the TrackML detector", remedy))
    table = layer_table()
    along, across = np.where(table.barrel[layer], (r, z), (z, r))
    off = np.abs(along - table.position[layer]) - table.half_depth[layer]
    off = np.maximum(off, np.maximum(table.low[layer] - across, across - table.high[layer]))
    far = np.flatnonzero(off > _TOLERANCE)
    if far.size:
        row = far[0]
        place = f"{off[row]:.3g} mm outside volume {hits.volume_id[row]}, layer {hits.layer_id[row]}"
        what = f"{far.size} hits are not on their layer (first hit_id {hits.hit_id[row]}, {place})"
        raise InputError(describe(where, what, f"within {_TOLERANCE:g} mm", f"check the units; {remedy}"))
