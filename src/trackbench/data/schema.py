"""Columns and types of the four TrackML tables of one event.

Names, order and types are those of trackml-library (LAL/trackml-library, ``trackml/dataset.py``), so
that code written for it reads the same values here: 32-bit numbers except ``particle_id``, which is
int64 because its bits hold the vertex and generation numbers and a float64 would lose the low ones.
"""

PARTS = ("hits", "cells", "particles", "truth")

_FLOAT = "float32"
_INT = "int32"

COLUMNS: dict[str, dict[str, str]] = {
    "hits": {
        "hit_id": _INT,
        "x": _FLOAT,  # global position [mm]
        "y": _FLOAT,
        "z": _FLOAT,
        "volume_id": _INT,
        "layer_id": _INT,
        "module_id": _INT,
    },
    "cells": {"hit_id": _INT, "ch0": _INT, "ch1": _INT, "value": _FLOAT},
    "particles": {
        "particle_id": "int64",
        "particle_type": _INT,  # PDG code
        "vx": _FLOAT,  # production vertex [mm]
        "vy": _FLOAT,
        "vz": _FLOAT,
        "px": _FLOAT,  # momentum at production [GeV]
        "py": _FLOAT,
        "pz": _FLOAT,
        "q": _INT,  # charge [e]
        "nhits": _INT,
    },
    "truth": {
        "hit_id": _INT,
        "particle_id": "int64",  # 0 = noise
        "tx": _FLOAT,  # true position [mm]
        "ty": _FLOAT,
        "tz": _FLOAT,
        "tpx": _FLOAT,  # true momentum [GeV]
        "tpy": _FLOAT,
        "tpz": _FLOAT,
        "weight": _FLOAT,
    },
}

# The Kaggle files have no particle_type; simulated ones do.
OPTIONAL = {"particles": ("particle_type",)}
