"""Vertices found in z0 against the true primary vertices of an event."""

from dataclasses import replace

import numpy as np
import pandas as pd

from trackbench.data.particle_id import vertex_number
from trackbench.data.truth import Truth
from trackbench.evaluation.conventions import Counts
from trackbench.evaluation.definitions import PROMPT_RADIUS, VERTEX_WINDOW
from trackbench.evaluation.selection import TruthSelection
from trackbench.fitting.vertices import Vertices

MIN_TARGETS = 2  # of a vertex that should be found
# Columns and types of the table of vertices.
VERTEX_COLUMNS = {
    "event_id": "int64",
    "kind": "str",
    "z": "float64",
    "sigma_z": "float64",
    "n_tracks": "int64",
    "matched": "bool",
}


def evaluate_vertices(
    found: Vertices, truth: Truth, target: np.ndarray, selection: TruthSelection
) -> tuple[Counts, pd.DataFrame]:
    """Compare vertices with the true ones that have at least two targets made there.

    target: (n_particles,) bool; selection: of the targets
    A found vertex is matched to the nearest true one, one to one, within ``definitions.VERTEX_WINDOW``.
    Found ones left over may match vertices of softer particles (the selection without its pT cut), which
    are real but not asked for: these are no fakes, and are not in the table.
    Returns the counts and a table ``VERTEX_COLUMNS``; kind = "found" or "true", and for the true ones n_tracks
    = targets and sigma_z = NaN. Where vertices are closer than the window, as at 200 pile-up in a short
    beam spot, a match says little.
    """
    true = _true_vertices(truth, target)
    is_real, is_found = _match(found.z, true["z"].to_numpy())
    soft = _true_vertices(truth, replace(selection, pt_min=0.0).selected(truth.particles))
    soft = soft[~soft.index.isin(true.index[is_found])]
    rest = np.flatnonzero(~is_real)
    is_real[rest] = _match(found.z[rest], soft["z"].to_numpy())[0]
    counts = {
        "vertex_efficiency": (int(is_found.sum()), len(true)),
        "vertex_fake_rate": (int((~is_real).sum()), len(found)),
    }
    ours = found.to_frame(truth.event_id).assign(kind="found", matched=is_real)
    theirs = true.assign(event_id=np.int64(truth.event_id), kind="true", sigma_z=np.nan, matched=is_found)
    frames = [frame[list(VERTEX_COLUMNS)].astype(VERTEX_COLUMNS) for frame in (ours, theirs)]
    return counts, pd.concat(frames, ignore_index=True)


def _true_vertices(truth: Truth, chosen: np.ndarray) -> pd.DataFrame:
    """Vertices with at least ``MIN_TARGETS`` chosen prompt particles: ``z n_tracks``, ascending in z [mm].

    A vertex is that of particle_id; its position is the median of its particles', as some are made in decays.
    """
    particles = truth.particles
    prompt = (particles["generation"] == 0) & (np.hypot(particles["vx"], particles["vy"]) <= PROMPT_RADIUS)
    kept = particles[chosen & prompt.to_numpy()]
    groups = kept.groupby(vertex_number(kept["particle_id"].to_numpy()))["vz"]
    table = pd.DataFrame({"z": groups.median().astype(np.float64), "n_tracks": groups.size().astype(np.int64)})
    return table[table["n_tracks"] >= MIN_TARGETS].sort_values("z", kind="stable")


def _match(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair positions one to one, closest pairs first, within the window; returns who of each is in a pair."""
    distance = np.abs(first[:, None] - second)
    i, j = np.nonzero(distance <= VERTEX_WINDOW)
    taken_first, taken_second = np.zeros(first.size, dtype=bool), np.zeros(second.size, dtype=bool)
    for k in np.argsort(distance[i, j], kind="stable"):
        if not (taken_first[i[k]] or taken_second[j[k]]):
            taken_first[i[k]] = taken_second[j[k]] = True
    return taken_first, taken_second
