"""Toy events written as TrackML files."""

from pathlib import Path

import numpy as np
import pandas as pd
from toys import toy_event


def toy_frames(event_id=1, n_strip=5, **options):
    """Return the raw tables (hits, particles, truth) of a toy event.

    n_strip: hits added in the strip volume 13, at r = 260 mm, without a particle
    options: as for ``toy_event``
    """
    hits, truth = toy_event(event_id=event_id, **{"seed": event_id, **options})
    names = ("volume_id", "layer_id", "module_id")
    frame = pd.DataFrame(hits.xyz, columns=["x", "y", "z"])
    frame.insert(0, "hit_id", hits.hit_id)
    frame = frame.assign(**{name: getattr(hits, name) for name in names})
    phi = np.linspace(-3, 3, n_strip)
    strip = {"hit_id": len(frame) + 1 + np.arange(n_strip), "x": 260 * np.cos(phi), "y": 260 * np.sin(phi), "z": phi}
    strip = pd.DataFrame({**strip, "volume_id": 13, "layer_id": 2, "module_id": 1 + np.arange(n_strip)})
    frame = pd.concat([frame, strip], ignore_index=True)
    columns = {"hit_id": frame["hit_id"], "particle_id": np.append(truth.particle_id, np.zeros(n_strip, np.int64))}
    columns.update({f"t{axis}": frame[axis] for axis in "xyz"}, tpx=0.1, tpy=0.2, tpz=0.3)
    columns["weight"] = np.append(truth.weight, np.zeros(n_strip))
    table = truth.particles
    momentum = {
        "px": table["pt"] * np.cos(table["phi"]),
        "py": table["pt"] * np.sin(table["phi"]),
        "pz": table["pt"] * np.sinh(table["eta"]),
    }
    particles = table[["particle_id", "vx", "vy", "vz"]].assign(**momentum, q=table["q"], nhits=table["n_hits"])
    return frame, particles, pd.DataFrame(columns)


def write_toy_event(directory, event_id=1, suffix=".csv", parts=("hits", "particles", "truth"), **options):
    """Write a toy event as ``directory/event%09d-PART + suffix`` and return its prefix, a Path."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    prefix = directory / f"event{event_id:09d}"
    frames = toy_frames(event_id, **options)
    for part, frame in zip(("hits", "particles", "truth"), frames, strict=True):
        path = Path(f"{prefix}-{part}{suffix}")
        if part in parts and suffix == ".parquet":
            frame.to_parquet(path, index=False)
        elif part in parts:
            frame.to_csv(path, index=False)
    return prefix
