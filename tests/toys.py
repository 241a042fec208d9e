"""Toy events for tests: exact helices in 2 T through a pixel detector, idealised or of real modules, plus noise."""

import functools

import numpy as np
import pandas as pd
from module_positions import module_positions

from trackbench.data.hits import Hits
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.geometry.detector import is_pixel
from trackbench.geometry.modules import module_row, module_table

BARREL = {2: 32.0, 4: 72.0, 6: 116.0, 8: 172.0}  # layer_id -> radius [mm], |z| < 490
DISKS = {2: 600.0, 4: 700.0, 6: 820.0, 8: 960.0, 10: 1100.0, 12: 1300.0, 14: 1500.0}  # |z| [mm], 30 < r < 176
CURVATURE = 0.299792458 * 2.0 / 2000.0  # x = CURVATURE * (q / pT) * r


def toy_event(n_tracks=30, n_noise=20, seed=0, sigma_z=5.5, smear=0.02, pt_min=0.5, event_id=1):
    """Return (Hits, Truth) of one toy event; hit_id runs from 1 in random order."""
    rng = np.random.default_rng(seed)
    rows, particles = [], []
    for i in range(n_tracks):
        pt, eta = pt_min / rng.uniform(0.05, 1.0) ** 0.5, rng.uniform(-3.5, 3.5)
        phi, q, vz = rng.uniform(-np.pi, np.pi), rng.choice([-1, 1]), rng.normal(0, sigma_z)
        hits = _helix_hits(pt, eta, phi, q, vz)
        pid = ((i + 1) << 52) | (1 << 36)
        layers = {(h[3], h[4]) for h in hits}
        rows += [(*h, pid) for h in hits]
        ids = {h[4] for h in hits}
        particles.append((pid, pt, eta, phi, 0.0, 0.0, vz, q, len(hits), len(layers), len(ids), len(hits), 0))
    for _ in range(n_noise):
        layer, r = list(BARREL.items())[rng.integers(4)]
        phi = rng.uniform(-np.pi, np.pi)
        rows.append((r * np.cos(phi), r * np.sin(phi), rng.uniform(-490, 490), 8, layer, 0))
    columns = ["x", "y", "z", "volume_id", "layer_id", "particle_id"]
    frame = pd.DataFrame(rows, columns=columns).sample(frac=1.0, random_state=seed).reset_index(drop=True)
    frame = frame.astype({"volume_id": "int64", "layer_id": "int64", "particle_id": "int64"})
    frame[["x", "y", "z"]] = frame[["x", "y", "z"]].astype(float) + rng.normal(0, smear, (len(frame), 3))
    frame["module_id"] = 1 + frame.index.to_numpy() % 100
    return _event(frame, particles, event_id)


def module_event(n_tracks=30, n_noise=20, seed=0, sigma_z=5.5, smear=0.01, pt_min=0.5, event_id=1):
    """Like ``toy_event``, with hits in the planes of the real pixel modules, smeared in these planes.

    Where modules overlap a particle leaves several hits in a layer.
    """
    rng = np.random.default_rng(seed)
    ids, centre, rotation, size = _pixel_modules()
    rows, particles = [], []
    for i in range(n_tracks):
        pt, eta = pt_min / rng.uniform(0.05, 1.0) ** 0.5, rng.uniform(-3.5, 3.5)
        phi, q, vz = rng.uniform(-np.pi, np.pi), rng.choice([-1, 1]), rng.normal(0, sigma_z)
        module, local = _module_crossings(pt, eta, phi, q, vz)
        pid = ((i + 1) << 52) | (1 << 36)
        rows += [(row, *uv, pid) for row, uv in zip(module, local, strict=True)]
        n_layers = len(np.unique(ids[module, :2], axis=0))
        n_ids = np.unique(ids[module, 1]).size
        n = len(module)
        particles.append((pid, pt, eta, phi, 0.0, 0.0, vz, q, n, n_layers, n_ids, n, 0))
    for row in rng.integers(len(ids), size=n_noise):
        rows.append((row, *(rng.uniform(-0.95, 0.95, 2) * size[row, [0, 2]]), 0))
    rows = [rows[k] for k in rng.permutation(len(rows))]
    module, pids = (np.array([row[k] for row in rows], dtype=np.int64) for k in (0, 3))
    local = np.array([row[1:3] for row in rows]).reshape(-1, 2) + rng.normal(0, smear, (len(rows), 2))
    frame = pd.DataFrame(ids[module], columns=["volume_id", "layer_id", "module_id"])
    frame[["x", "y", "z"]] = centre[module] + np.einsum("nij,nj->ni", rotation[module][:, :, :2], local)
    frame["particle_id"] = pids
    return _event(frame, particles, event_id)


def half_turn(hits):
    """Return hits of ``module_event`` turned by pi about the beam, each on the pixel module that is there.

    No smaller angle turns all pixel layers into themselves.
    """
    ids, centre, _, _ = _pixel_modules()
    row = {tuple(key): k for k, key in enumerate(ids.tolist())}
    here = [row[key] for key in zip(hits.volume_id, hits.layer_id, hits.module_id, strict=True)]
    turn = np.array([-1.0, -1.0, 1.0])
    place = {tuple(key): k for k, key in enumerate(np.round(centre, 1).tolist())}
    there = [place[tuple(key)] for key in np.round(centre[here] * turn, 1).tolist()]
    frame = pd.DataFrame(ids[there], columns=["volume_id", "layer_id", "module_id"])
    frame[["x", "y", "z"]] = hits.xyz * turn
    return Hits.from_frame(frame.assign(hit_id=hits.hit_id), hits.event_id)


@functools.cache
def _pixel_modules():
    """Ids, centres, rotations and sizes of the pixel modules."""
    ids, centre, size = module_positions()
    pixel = is_pixel(ids[:, 0])
    return ids[pixel], centre[pixel], module_table().rotation[module_row(*ids[pixel].T)], size[pixel]


def _module_crossings(pt, eta, phi, q, vz):
    """Modules that a helix from (0, 0, vz) crosses, and where in their planes. Returns (n,) rows, (n, 2) [mm]."""
    _, centre, rotation, size = _pixel_modules()
    normal, turn = rotation[:, :, 2], 2 * CURVATURE * q / pt  # angle turned per mm of path in the transverse plane

    def position(path):
        angle = phi - turn * path
        x, y = (np.sin(phi) - np.sin(angle)) / turn, (np.cos(angle) - np.cos(phi)) / turn
        return np.column_stack([x, y, vz + np.sinh(eta) * path]), angle

    path = np.hypot(centre[:, 0], centre[:, 1])
    for _ in range(8):  # Newton's method: distance from the plane
        place, angle = position(path)
        direction = np.column_stack([np.cos(angle), np.sin(angle), np.full(len(path), np.sinh(eta))])
        slope = (direction * normal).sum(axis=1)
        step = ((place - centre) * normal).sum(axis=1) / np.where(np.abs(slope) > 1e-6, slope, 1e-6)
        path = np.clip(path - step, -1.0, 300.0)
    place, _ = position(path)
    local = np.einsum("nji,nj->ni", rotation, place - centre)
    inside = (np.abs(local[:, 2]) < 1e-9) & (np.abs(local[:, 0]) < size[:, 0]) & (np.abs(local[:, 1]) < size[:, 2])
    inside &= path > 0
    return np.flatnonzero(inside), local[inside, :2]


def _event(frame, particles, event_id):
    """Number the hits in the order of the frame; (Hits, Truth)."""
    frame["hit_id"] = np.arange(1, len(frame) + 1)
    names = list(PARTICLE_COLUMNS)
    table = pd.DataFrame(particles, columns=names).sort_values("particle_id").reset_index(drop=True)
    weight = (frame["particle_id"] > 0).to_numpy(float)
    weight /= max(weight.sum(), 1.0)
    truth = Truth(frame["hit_id"].to_numpy(), frame["particle_id"].to_numpy(), weight, table, event_id)
    return Hits.from_frame(frame, event_id), truth


def _helix_hits(pt, eta, phi, q, vz):
    """Hits (x, y, z, volume, layer) of a helix from (0, 0, vz), inside out."""
    out, slope = [], np.sinh(eta)
    crossings = [(r, 8, layer) for layer, r in BARREL.items()]
    for layer, z in DISKS.items():
        path = (np.copysign(z, eta) - vz) / slope if abs(slope) > 1e-6 else np.inf
        x = CURVATURE * path / pt
        if 0 < x < np.pi / 2:
            crossings.append((pt / CURVATURE * np.sin(x), 9 if eta > 0 else 7, layer if eta > 0 else 16 - layer))
    for r, volume, layer in sorted(crossings):
        x = CURVATURE * q * r / pt
        if abs(x) >= 1:
            continue
        z = vz + slope * r * (np.arcsin(x) / x)
        if (volume == 8 and abs(z) > 490) or (volume != 8 and not 30 < r < 176):
            continue
        azimuth = phi - np.arcsin(x)
        out.append((r * np.cos(azimuth), r * np.sin(azimuth), z, volume, layer))
    return out
