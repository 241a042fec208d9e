"""Hit weights against hand-computed values and a plain per-particle loop."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trackbench.data.particle_id import generation_number, pack_particle_id, vertex_number
from trackbench.data.weights import hit_weights, order_weights, pt_weights
from trackbench.errors import InputError

SAMPLE = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "trackml-sample"


def event(hits_per_particle, pt, vz=0.0, particle_id=None):
    """Truth and particles; the hits of a particle lie at tz = vz + 1, 2, 3, ... [mm]."""
    ids = particle_id if particle_id is not None else np.arange(1, len(pt) + 1)
    particles = pd.DataFrame({"particle_id": ids, "vz": vz, "px": pt, "py": 0.0})
    rows = [(pid, vz + k + 1.0) for pid, n in zip(ids, hits_per_particle, strict=True) for k in range(n)]
    return pd.DataFrame(rows, columns=["particle_id", "tz"]), particles


def naive_weights(truth, particles, phase2=False):
    """Particle by particle, with pandas' own mean rank."""
    profile, out = [10, 8, 6, 5, 3, 3, 3, 5, 6], np.zeros(len(truth))
    for _, p in particles.iterrows():
        at = np.flatnonzero(truth["particle_id"] == p["particle_id"])
        if p["particle_id"] == 0 or len(at) < 4 or (phase2 and (int(p["particle_id"]) >> 24) % 4096):
            continue
        rank = pd.Series(abs(truth["tz"].to_numpy()[at] - p["vz"])).rank().to_numpy() - 1
        n = min(len(at), 20)
        row = np.interp(np.arange(n), np.linspace(0, n - 1, 9), profile)
        pt = float(np.hypot(p["px"], p["py"]))
        factor = 0.0 if pt < 0.05 else min(max(0.2, 0.2 + 0.8 * (pt - 0.5) / 2.5), 1.0)
        out[at] = [factor * row[int(r)] / row.sum() if r < 20 else 0.0 for r in rank]
    return out / out.sum()


def test_worked_example_of_the_metric():
    truth, particles = event([4, 5, 3, 2], pt=[2.0, 1.5, 0.5, 3.0])
    expected_a = [0.23288, 0.12420, 0.06986, 0.13973]
    expected_b = [0.15476, 0.09286, 0.04643, 0.04643, 0.09286]
    np.testing.assert_allclose(hit_weights(truth, particles), [*expected_a, *expected_b, 0, 0, 0, 0, 0], atol=5e-6)


def test_order_table_rows():
    table = order_weights()
    np.testing.assert_allclose(table[4, :4], np.array([10, 16 / 3, 3, 6]) / (10 + 16 / 3 + 3 + 6), rtol=1e-12)
    np.testing.assert_allclose(table[9, :9], np.array([10, 8, 6, 5, 3, 3, 3, 5, 6]) / 49, rtol=1e-12)
    np.testing.assert_allclose(table.sum(axis=1), [0] * 4 + [1] * 17, atol=1e-12)


def test_pt_weights():
    np.testing.assert_allclose(pt_weights([0.01, 0.05, 0.3, 0.5, 1.75, 3.0, 50.0]), [0, 0.2, 0.2, 0.2, 0.6, 1, 1])


@pytest.mark.parametrize("phase2", [False, True])
def test_agrees_with_naive_loop_including_ties_and_long_tracks(phase2):
    rng = np.random.default_rng(3)
    n_hits = rng.integers(1, 26, 40)
    ids = pack_particle_id(np.full(40, 3), np.arange(1, 41), rng.integers(0, 2, 40), np.arange(40))
    truth, particles = event(n_hits, pt=rng.uniform(0.01, 4, 40), vz=1.25, particle_id=ids)
    truth["tz"] = truth["tz"].round(0) // 2  # pairs of hits at the same distance
    noise = pd.DataFrame({"particle_id": np.zeros(7, int), "tz": np.arange(7.0)})
    truth = pd.concat([truth, noise]).sample(frac=1, random_state=1).reset_index(drop=True)
    weight = hit_weights(truth, particles, phase2=phase2)
    np.testing.assert_allclose(weight, naive_weights(truth, particles, phase2), rtol=0, atol=1e-15)
    assert weight.sum() == pytest.approx(1.0, abs=1e-12)


def test_unknown_particle_and_all_noise_weigh_nothing():
    truth, particles = event([5, 6], pt=[1.0, 1.0])
    weight = hit_weights(truth, particles.iloc[:1])
    assert weight[:5].sum() == pytest.approx(1.0)
    assert (weight[5:] == 0).all()
    assert (hit_weights(truth.assign(particle_id=0), particles) == 0).all()
    assert hit_weights(truth.iloc[:0], particles).shape == (0,)


def test_duplicate_particle_is_an_input_error():
    truth, particles = event([5], pt=[1.0])
    with pytest.raises(InputError, match="particle_id 1 appears twice"):
        hit_weights(truth, pd.concat([particles, particles]))


def test_particle_id_parts():
    pid = pack_particle_id([2047, 1], [65535, 7], [0, 3], [4095, 2])
    assert (pid > 0).all()
    assert list(vertex_number(pid)) == [2047, 1]
    assert list(generation_number(pid)) == [0, 3]
    assert pid[1] == 2**52 + 7 * 2**36 + 3 * 2**24 + 2 * 2**12


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.exists(), reason="no real TrackML sample beside the repository")
def test_real_particle_ids_carry_generation_zero_where_weights_are_positive():
    truth = pd.read_csv(SAMPLE / "event000000001-truth.csv.gz", dtype={"particle_id": "int64"})
    weighted = truth["weight"] > 0
    assert weighted.sum() > 1000
    assert (generation_number(truth["particle_id"])[weighted] == 0).all()
