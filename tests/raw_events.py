"""Small valid raw events for tests of reading and preparing."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from toys import toy_event

from trackbench.data.schema import COLUMNS

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
SAMPLE = DATA / "trackml-sample" / "event000000001"


def raw_tables(n_tracks=8, n_noise=5, seed=0):
    """Return the four tables of a toy event, by part, with the types of the schema."""
    hits, truth = toy_event(n_tracks, n_noise, seed)
    n = len(hits)
    xyz = dict(zip("xyz", hits.xyz.T, strict=True))
    place = {"volume_id": hits.volume_id, "layer_id": hits.layer_id, "module_id": hits.module_id}
    momentum = dict.fromkeys(("tpx", "tpy", "tpz"), np.ones(n))
    true_xyz = {f"t{name}": values for name, values in xyz.items()}
    p = truth.particles
    pxyz = {"px": p.pt * np.cos(p.phi), "py": p.pt * np.sin(p.phi), "pz": p.pt * np.sinh(p.eta)}
    vertex = {name: p[name] for name in ("vx", "vy", "vz")}
    tables = {
        "hits": pd.DataFrame({"hit_id": hits.hit_id, **xyz, **place}),
        "cells": pd.DataFrame({"hit_id": hits.hit_id, "ch0": 1, "ch1": np.arange(n), "value": 0.25}),
        "particles": pd.DataFrame(
            {"particle_id": p.particle_id, "particle_type": 211, **vertex, **pxyz, "q": p.q, "nhits": p.n_hits}
        ),
        "truth": pd.DataFrame(
            {"hit_id": hits.hit_id, "particle_id": truth.particle_id, **true_xyz, **momentum, "weight": truth.weight}
        ),
    }
    return {part: table.astype(COLUMNS[part]) for part, table in tables.items()}


def write_raw(tables, directory, event_id=1000, suffix=".csv"):
    """Write the tables as files of one event. Returns the prefix."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    prefix = directory / f"event{event_id:09d}"
    for part, table in tables.items():
        path = Path(f"{prefix}-{part}{suffix}")
        if suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            data = table.to_csv(index=False, lineterminator="\n").encode()
            path.write_bytes(gzip.compress(data, mtime=0) if suffix == ".csv.gz" else data)
    return prefix
