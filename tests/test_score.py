"""The TrackML score against a plain transcription of its definition, and its errors."""

import numpy as np
import pandas as pd
import pytest
from metric_events import worked_example
from toys import toy_event

from trackbench.errors import InputError
from trackbench.evaluation import evaluate_event, hit_weights, trackml_score


def plain_score(truth: pd.DataFrame, submission: pd.DataFrame) -> float:
    """Score by the definition, one hit at a time."""
    track_of = dict(zip(submission["hit_id"], submission["track_id"], strict=True))
    n_particle, tracks = {}, {}
    for hit, particle, weight in truth[["hit_id", "particle_id", "weight"]].itertuples(index=False):
        n_particle[particle] = n_particle.get(particle, 0) + 1
        tracks.setdefault(track_of[hit], []).append((particle, weight))
    score = 0.0
    for hits in tracks.values():
        shared = {}
        for particle, _ in hits:
            shared[particle] = shared.get(particle, 0) + 1
        majority = min(shared, key=lambda particle: (-shared[particle], particle))
        if shared[majority] > 0.5 * len(hits) and shared[majority] > 0.5 * n_particle[majority]:
            score += sum(weight for particle, weight in hits if particle == majority)
    return score / truth["weight"].sum()


def frames(labels, truth):
    """Truth and submission tables; unassigned hits become tracks of their own."""
    table = pd.DataFrame({"hit_id": truth.hit_id, "particle_id": truth.particle_id, "weight": truth.weight})
    own = labels.max(initial=0) + 1 + np.arange(len(labels))
    return table, pd.DataFrame({"hit_id": truth.hit_id, "track_id": np.where(labels < 0, own, labels)})


def test_worked_example():
    assert trackml_score(*frames(*worked_example())) == pytest.approx(0.8607142857142857, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_equals_plain_score(seed):
    _, truth = toy_event(n_tracks=40, n_noise=30, seed=seed)
    rng = np.random.default_rng(seed)
    # Mostly right labels, then mixed up: good, bad and tied tracks, hits of noise, unassigned ones.
    labels = np.unique(truth.particle_id, return_inverse=True)[1] * 2
    split = rng.random(len(labels)) < 0.3
    labels[split] += rng.integers(-1, 3, split.sum())
    table, submission = frames(labels, truth)
    table["weight"] *= rng.random(len(table))
    submission = submission.sample(frac=1.0, random_state=seed)
    score = trackml_score(table, submission)
    assert score == pytest.approx(plain_score(table, submission), abs=1e-12)
    assert 0 < score < 1


def test_equals_the_metric_of_the_same_labels():
    labels, truth = worked_example()
    assert trackml_score(*frames(labels, truth)) == pytest.approx(evaluate_event(labels, truth).value("trackml_score"))


def test_perfect_and_useless_tracks():
    _, truth = toy_event()
    table, _ = frames(truth.particle_id, truth)
    perfect = pd.DataFrame({"hit_id": truth.hit_id, "track_id": truth.particle_id})
    assert trackml_score(table, perfect) == pytest.approx(1.0)
    assert trackml_score(table, perfect.assign(track_id=0)) == 0.0
    assert trackml_score(table, perfect.assign(track_id=np.arange(len(perfect)))) == 0.0


def test_noise_competes_for_the_majority():
    """Two hits each: noise wins the tie by its smaller id; with three of five hits the particle wins."""
    table = pd.DataFrame({"hit_id": [1, 2, 3, 4, 5], "particle_id": [0, 0, 9, 9, 9], "weight": [0, 0, 0.2, 0.3, 0.5]})
    submission = pd.DataFrame({"hit_id": [1, 2, 3, 4, 5], "track_id": [1, 1, 1, 1, 2]})
    assert trackml_score(table, submission) == 0.0
    assert trackml_score(table, submission.assign(track_id=1)) == pytest.approx(1.0)


def test_half_of_the_track_is_not_enough():
    """The particles of the track tie: the smaller id leads it, complete, with exactly half of its hits."""
    table = pd.DataFrame({"hit_id": [1, 2, 3, 4], "particle_id": [3, 3, 9, 9], "weight": 0.25})
    assert trackml_score(table, pd.DataFrame({"hit_id": [1, 2, 3, 4], "track_id": 0})) == 0.0


def test_hits_beyond_the_truth_are_ignored():
    table, submission = frames(*worked_example())
    more = pd.DataFrame({"hit_id": [100, 101], "track_id": [0, 1]})
    assert trackml_score(table, pd.concat([submission, more])) == trackml_score(table, submission)


def test_neighbouring_large_ids_stay_apart():
    """particle_id uses more than 53 bits: as floats these two particles were one."""
    big = (1 << 60) + np.array([0, 0, 1, 1])
    table = pd.DataFrame({"hit_id": [1, 2, 3, 4], "particle_id": big, "weight": 0.25})
    submission = pd.DataFrame({"hit_id": [1, 2, 3, 4], "track_id": [0, 0, 1, 1]})
    assert trackml_score(table, submission) == pytest.approx(1.0)


def test_no_weight_at_all():
    table, submission = frames(*worked_example())
    assert np.isnan(trackml_score(table.assign(weight=0.0), submission))
    assert np.isnan(trackml_score(table.iloc[:0], submission.iloc[:0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, s: (t, s.assign(track_id=[-1] * 2 + [0] * 14)), "submission: 2 rows with negative track_id"),
        (lambda t, s: (t.assign(particle_id=-5), s), "truth: 16 rows with negative particle_id (first -5)"),
        (lambda t, s: (t, s.iloc[3:]), "submission: 3 hits of the truth have no track_id (first hit_id 1)"),
        (lambda t, s: (t, s.iloc[:0]), "submission: 16 hits of the truth have no track_id (first hit_id 1)"),
        (lambda t, s: (t, s.assign(hit_id=[1, 1, *range(3, 17)])), "submission: 1 duplicate hit_id (first 1)"),
        (lambda t, s: (t.assign(hit_id=[1, 1, *range(3, 17)]), s), "truth: 1 duplicate hit_id (first 1)"),
        (lambda t, s: (t.drop(columns="weight"), s), "truth: no column weight, expected columns hit_id"),
        (lambda t, s: (t, s.drop(columns="track_id")), "submission: no column track_id"),
        (lambda t, s: (t.astype({"particle_id": float}), s), "truth: column particle_id is float64"),
        (lambda t, s: (t.assign(weight=np.nan), s), "truth: 16 weights are not finite"),
    ],
)
def test_errors(change, message):
    with pytest.raises(InputError) as error:
        trackml_score(*change(*frames(*worked_example())))
    assert message in str(error.value)


def test_hit_weights_is_reachable_beside_the_score():
    truth = pd.DataFrame({"particle_id": [1] * 4, "tz": [1.0, 2.0, 3.0, 4.0]})
    weights = hit_weights(truth, pd.DataFrame({"particle_id": [1], "vz": [0.0], "px": [3.0], "py": [0.0]}))
    np.testing.assert_allclose(weights, [0.41096, 0.21918, 0.12329, 0.24658], atol=5e-6)
