"""Small hand-made events for the metric tests."""

import numpy as np
import pandas as pd

from trackbench.data.truth import PARTICLE_COLUMNS, Truth


def make_truth(particle_id, kinematics, weight=None, event_id=1, n_hits=None) -> Truth:
    """Build a Truth in which each hit of a particle lies on a layer of its own.

    particle_id: id per hit; kinematics: id -> (pt, eta); weight: (n,), default 1/n each
    n_hits: id -> hits in the full event, default the hits given
    """
    particle_id = np.asarray(particle_id, dtype=np.int64)
    rows = []
    for pid in sorted(kinematics):
        pt, eta = kinematics[pid]
        hits = (n_hits or {}).get(pid, int((particle_id == pid).sum()))
        values = dict.fromkeys(PARTICLE_COLUMNS, 0.0)
        values.update(pt=pt, eta=eta, n_hits=hits, n_layers=hits, n_layer_ids=hits, n_hits_all=hits)
        rows.append({**values, "particle_id": pid})
    integer = dict.fromkeys(("particle_id", "n_hits", "n_layers", "n_layer_ids", "n_hits_all", "generation"), "int64")
    particles = pd.DataFrame(rows, columns=list(PARTICLE_COLUMNS)).astype(integer)
    n = len(particle_id)
    weight = np.full(n, 1 / max(n, 1)) if weight is None else np.asarray(weight, dtype=float)
    return Truth(np.arange(1, n + 1), particle_id, weight, particles, event_id)


WORKED_KINEMATICS = {1: (2.0, 0.5), 2: (1.5, -1.0), 3: (0.5, 0.2), 4: (3.0, 3.0)}
WORKED_PARTICLES = [1] * 4 + [2] * 5 + [3] * 3 + [4] * 2 + [0] * 2
WORKED_LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 1, 3, 3, 3, 4, 2, 4]


def worked_weights() -> np.ndarray:
    """Weights of the worked example, by hand: order profile sampled at 4 and 5 hits times pT weight."""
    profile_4 = np.array([10.0, 16 / 3, 3.0, 6.0])  # supports every 3/8: rank 1 lies 2/3 of the way from 6 to 5
    profile_5 = np.array([10.0, 6.0, 3.0, 3.0, 6.0])  # supports every 1/2
    a = 0.68 * profile_4 / profile_4.sum()
    b = 0.52 * profile_5 / profile_5.sum()
    weight = np.concatenate([a, b, np.zeros(7)])
    return weight / weight.sum()


def worked_example(event_id=1) -> tuple[np.ndarray, Truth]:
    """Labels and truth of the worked example: A, B fast; C soft; D with 2 hits only; two noise hits."""
    truth = make_truth(WORKED_PARTICLES, WORKED_KINEMATICS, worked_weights(), event_id)
    return np.array(WORKED_LABELS), truth
