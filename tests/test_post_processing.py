"""The study of what follows the network: each row is what the tracker with these settings gives."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from toy_hept import bin_tracker
from toys import toy_event

from trackbench.data.sectors import take_truth
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.fitting.cleanup import CleanUp, clean_up
from trackbench.post_processing import (
    COLUMNS,
    CPU,
    GAINS,
    METRICS,
    STEPS,
    post_processing_markdown,
    post_processing_study,
)

SELECTION = TruthSelection(pt_min=0.5)
SETTINGS = {"noise": 0.4, "parts": 6, "eta_max": 3.0}
# step -> settings of the tracker that ends there
ENDS = {
    "argmax": {"merge": False},
    "merge": {"merge": True},
    "kmeans": {"merge": True, "kmeans": 2},
    "compete": {"merge": True, "kmeans": 2, "clean_up": True},
}


@pytest.fixture(scope="module")
def events():
    return [toy_event(n_tracks=40, n_noise=20, seed=seed, pt_min=1.0, event_id=seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def table(events):
    return post_processing_study(bin_tracker(**SETTINGS), events, SELECTION, kmeans=2)


def pooled(events, labels_of):
    counts = [evaluate_event(labels_of(hits), truth, SELECTION).counts for hits, truth in events]
    sums = {metric: np.sum([count[metric] for count in counts], axis=0) for metric in METRICS}
    return {metric: num / den for metric, (num, den) in sums.items()}


def values(table, step):
    return table[table["step"] == step].set_index("metric")["value"].to_dict()


def test_columns_and_rows(table):
    assert list(table.columns) == list(COLUMNS)
    assert list(dict.fromkeys(table["step"])) == list(STEPS)
    for step, mine in table.groupby("step"):
        gains = [] if step == "argmax" else list(GAINS.values())
        assert list(mine["metric"]) == ([CPU] if step in ("network", "fit") else [*METRICS, CPU, *gains])
    assert (table["n_events"] == 2).all()
    assert (table["lo"] <= table["value"] + 1e-12).all() and (table["value"] <= table["hi"] + 1e-12).all()
    assert (table.loc[table["metric"] == CPU, "value"] >= 0).all()


@pytest.mark.parametrize("step", ENDS)
def test_a_step_is_what_the_tracker_gives(table, events, step):
    expected = pooled(events, bin_tracker(**SETTINGS, **ENDS[step]).reconstruct)
    found = values(table, step)
    for metric in METRICS:
        assert found[metric] == pytest.approx(expected[metric]), metric


def test_the_steps_differ(table):
    found = [tuple(values(table, step)[metric] for metric in METRICS) for step in ENDS]
    assert len(set(found)) == len(found)


def test_gains_are_differences_of_neighbours(table):
    labelled = [step for step in STEPS if step not in ("network", "fit")]
    for metric, gain in GAINS.items():
        changes = []
        for before, step in itertools.pairwise(labelled):
            changes.append(values(table, step)[gain])
            assert changes[-1] == pytest.approx(values(table, step)[metric] - values(table, before)[metric])
        assert any(changes)


def test_steps_of_the_clean_up(table, events):
    """Drop outliers and split, then join, each on the candidates after k-means."""
    tracker = bin_tracker(**SETTINGS, **ENDS["kmeans"])
    for step, off in [("drop_outliers", ("join", "pick_up", "compete")), ("join", ("pick_up", "compete"))]:
        settings = CleanUp(**dict.fromkeys(off, False))

        def labels_of(hits, settings=settings):
            seen = tracker.seen(hits)
            labels = np.full(len(hits), -1)
            labels[seen] = clean_up(hits.take(seen), tracker.reconstruct(hits)[seen], settings).labels
            return labels

        expected, found = pooled(events, labels_of), values(table, step)
        for metric in METRICS:
            assert found[metric] == pytest.approx(expected[metric]), (step, metric)


def test_without_kmeans(events):
    table = post_processing_study(bin_tracker(**SETTINGS), events[:1], SELECTION, kmeans=0)
    assert list(dict.fromkeys(table["step"])) == [step for step in STEPS if step != "kmeans"]
    expected = pooled(events[:1], bin_tracker(**SETTINGS, clean_up=True).reconstruct)
    assert values(table, "compete")["dm"] == pytest.approx(expected["dm"])


def test_order_and_an_event_without_hits_in_sight(events):
    hits, truth = events[0]
    table = post_processing_study(bin_tracker(**{**SETTINGS, "eta_max": 1e-6}), [(hits, truth)], SELECTION)
    assert values(table, "compete")["dm"] == 0.0
    assert np.isnan(values(table, "compete")["fake_all"])
    rows = np.random.default_rng(0).permutation(len(hits))
    mixed = hits.take(rows), take_truth(truth, rows)
    found = post_processing_study(bin_tracker(**SETTINGS), [mixed], SELECTION)
    expected = post_processing_study(bin_tracker(**SETTINGS), [events[0]], SELECTION)
    kept = found["metric"] != CPU
    assert found[kept].equals(expected[kept])


def test_an_event_of_noise_only(events):
    """With noise only in the truth all steps are there and nothing is there to be found."""
    hits, truth = events[0]
    blind = replace(truth, particle_id=np.zeros_like(truth.particle_id))
    table = post_processing_study(bin_tracker(**SETTINGS), [(hits, blind)], SELECTION)
    assert set(table["step"]) == set(STEPS)
    assert np.isnan(values(table, "compete")["dm"])


def test_bad_requests(events):
    with pytest.raises(InputError, match="post-processing study: no events"):
        post_processing_study(bin_tracker(), [])
    with pytest.raises(ConfigError, match="kmeans: value -1, expected >= 0"):
        post_processing_study(bin_tracker(), events, kmeans=-1)


def test_markdown(table):
    text = post_processing_markdown(table, "Two toy events")
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 2 + len(STEPS)
    assert f"{values(table, 'merge')['dm']:.3f}" in text
    change = f"{values(table, 'merge')['dm_gain']:+.3f} (".replace("-", "\N{MINUS SIGN}")
    assert change in next(line for line in text.splitlines() if STEPS["merge"] in line)
    assert "Two toy events." in text
