"""Toy events for tests: exact helices in 2 T through an idealised pixel detector, plus noise."""

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.truth import PARTICLE_COLUMNS, Truth

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
    frame["hit_id"] = np.arange(1, len(frame) + 1)
    frame["module_id"] = 1 + frame.index.to_numpy() % 100
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
