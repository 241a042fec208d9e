"""Every metric against hand-computed values: the worked example, small cases, wrong input."""

import time

import numpy as np
import pandas as pd
import pytest
from metric_events import WORKED_KINEMATICS, WORKED_PARTICLES, make_truth, worked_example, worked_weights
from toys import toy_event

from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.data.weights import hit_weights, order_weights
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.definitions import FITTED_METRICS, METRICS
from trackbench.evaluation.matching import match_clusters

HEADLINE = TruthSelection()
NO_PT_CUT = TruthSelection(pt_min=0.0)

# selection, metric, its numerator and its denominator
WORKED_VALUES = [
    (HEADLINE, "fit_accuracy", 9, 14),
    (HEADLINE, "fit_accuracy_all", 9, 16),
    (HEADLINE, "perfect", 1, 2),
    (HEADLINE, "dm", 2, 2),
    (HEADLINE, "lhc", 1, 3),
    (HEADLINE, "fake_perfect", 2, 3),
    (HEADLINE, "fake_dm", 1, 3),
    (HEADLINE, "fake_lhc", 2, 3),
    (HEADLINE, "technical", 2, 2),
    (HEADLINE, "fake_rate", 0, 3),
    (HEADLINE, "dup_rate", 1, 2),
    (HEADLINE, "fake_dm_per_particle", 1, 2),
    (NO_PT_CUT, "perfect", 1, 3),
    (NO_PT_CUT, "dm", 3, 3),
    (NO_PT_CUT, "lhc", 1, 4),
    (NO_PT_CUT, "fake_dm", 1, 4),
    (NO_PT_CUT, "fake_dm_per_particle", 1, 3),
    (NO_PT_CUT, "dup_rate", 1, 3),
    (HEADLINE, "acorn_atlas_eff_3", 2, 2),
    (HEADLINE, "acorn_atlas_fake_3", 0, 4),
    (HEADLINE, "acorn_atlas_dup_3", 1, 2),
    (HEADLINE, "acorn_two_way_eff_3", 2, 2),
    (HEADLINE, "acorn_two_way_fake_3", 1, 4),
    (HEADLINE, "acorn_two_way_dup_3", 0, 2),
    (HEADLINE, "acorn_one_way_eff_3", 2, 2),
    (HEADLINE, "acorn_one_way_fake_3", 0, 4),
    (HEADLINE, "acorn_atlas_eff_5", 0, 2),
    (HEADLINE, "maskformer_dm", 2, 2),
    (HEADLINE, "maskformer_perfect", 1, 2),
    (HEADLINE, "maskformer_lhc", 1, 2),
    (HEADLINE, "maskformer_fake", 2, 4),
    (HEADLINE, "maskformer_dup", 0, 4),
    (HEADLINE, "fake_all", 1, 4),
    (HEADLINE, "coverage", 14, 16),
    (HEADLINE, "coverage_target", 9, 9),
    (HEADLINE, "n_clusters", 5, 1),
    (HEADLINE, "n_candidates", 4, 1),
    (HEADLINE, "n_fiducial", 3, 1),
    (HEADLINE, "n_targets", 2, 1),
    (HEADLINE, "n_noise", 2, 1),
    (HEADLINE, "n_hits", 16, 1),
]


@pytest.mark.parametrize(("selection", "metric", "num", "den"), WORKED_VALUES)
def test_worked_example(selection, metric, num, den):
    labels, truth = worked_example()
    assert evaluate_event(labels, truth, selection).counts[metric] == (num, den)


def test_matched_hits_count_clusters_of_any_size():
    """Two of the two hits of particle 2 in a cluster of two: too small for DM, not for FitAccuracy."""
    truth = make_truth([1, 1, 1, 1, 2, 2], {1: (1.0, 0.0), 2: (1.0, 0.0)})
    selection = TruthSelection(pt_min=0.0, min_layers=1)
    result = evaluate_event(np.array([0, 0, 5, -1, 3, 3]), truth, selection)
    assert result.particles["n_matched"].tolist() == [0, 2]  # 2 of 4 hits are no majority
    assert result.particles["dm"].tolist() == [False, False]
    assert result.counts["fit_accuracy"] == (2, 6)


def test_worked_example_trackml_score():
    labels, truth = worked_example()
    assert evaluate_event(labels, truth).value("trackml_score") == pytest.approx(0.860714, abs=1e-6)


def test_worked_example_one_hit_unassigned():
    labels, truth = worked_example()
    labels[6] = -1  # hit 7: cluster 1 becomes BBC, P = 2/3, E = 2/5
    result = evaluate_event(labels, truth)
    assert result.counts["dm"] == (1, 2)
    assert result.counts["technical"] == (2, 2)


def test_hit_weights_of_four_and_five_hits():
    np.testing.assert_allclose(order_weights()[4, :4], [0.41096, 0.21918, 0.12329, 0.24658], atol=5e-6)
    np.testing.assert_allclose(order_weights()[5, :5], [0.35714, 0.21429, 0.10714, 0.10714, 0.21429], atol=5e-6)


def test_hit_weights_of_worked_example():
    truth = pd.DataFrame({"particle_id": WORKED_PARTICLES, "tz": np.arange(16.0)})
    pt = [kinematics[0] for kinematics in WORKED_KINEMATICS.values()]
    particles = pd.DataFrame({"particle_id": list(WORKED_KINEMATICS), "vz": -1.0, "px": pt, "py": 0.0})
    weights = hit_weights(truth, particles)
    np.testing.assert_allclose(weights[:9], [*PRINTED_A, *PRINTED_B], atol=5e-6)
    np.testing.assert_array_equal(weights[9:], 0.0)
    np.testing.assert_allclose(weights, worked_weights(), rtol=1e-12)


PRINTED_A = (0.23288, 0.12420, 0.06986, 0.13973)
PRINTED_B = (0.15476, 0.09286, 0.04643, 0.04643, 0.09286)

HEPTV2_PARTICLES = [1] * 6 + [2] * 4 + [3] * 5 + [0] * 4
HEPTV2_KINEMATICS = {1: (2.0, 0.0), 2: (1.0, 0.0), 3: (0.3, 0.0)}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("000000 1111 22222 ----", {"dm": 1, "fake_rate": 0, "perfect": 1}),
        ("000333 1111 22222 ----", dict(dm=0.5, perfect=0.5, technical=1, dup_rate=0.5, fake_rate=0)),
        ("000333 1111 22222 ----", {"fake_dm_per_particle": 1}),
        ("000000 1111 11222 ----", {"dm": 1, "lhc": 0.5, "fake_rate": 0}),
        ("000000 1133 22222 ----", {"dm": 0.5, "technical": 0.5, "fake_rate": 0}),
    ],
)
def test_heptv2_vectors(labels, expected):
    values = np.array([-1 if c == "-" else int(c) for c in labels.replace(" ", "")])
    result = evaluate_event(values, make_truth(HEPTV2_PARTICLES, HEPTV2_KINEMATICS))
    assert {name: result.value(name) for name in expected} == expected


def test_empty_event():
    truth = make_truth([], {})
    result = evaluate_event(np.zeros(0, dtype=np.int64), truth, kept=np.zeros(0, dtype=bool))
    assert set(result.counts) == METRICS.keys() - set(FITTED_METRICS)
    assert all(num == 0 for num, den in result.counts.values())
    assert np.isnan(result.value("dm"))
    assert len(result.particles) == len(result.candidates) == 0


def test_full_pileup_event_takes_less_than_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    particle_id = rng.permutation(np.repeat(np.arange(10_000, dtype=np.int64) << 40, 6))
    particles = pd.DataFrame(0.0, index=range(9999), columns=list(PARTICLE_COLUMNS))
    particles = particles.assign(particle_id=np.unique(particle_id)[1:], pt=1.0, n_hits=6, n_layers=6)
    truth = Truth(np.arange(60_000), particle_id, np.full(60_000, 1 / 60_000), particles)
    labels = np.where(rng.random(60_000) < 0.3, rng.integers(-1, 10_000, 60_000), particle_id >> 40)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        result = evaluate_event(labels, truth)
        seconds.append(time.process_time() - start)
    assert result.counts["n_targets"] == (9999, 1)
    assert min(seconds) < 0.1


def test_event_of_noise_only():
    result = evaluate_event(np.zeros(5, dtype=np.int64), make_truth([0] * 5, {}, np.zeros(5)))
    assert result.counts["dm"] == (0, 0)
    assert result.counts["n_noise"] == (5, 1)
    assert np.isnan(result.value("trackml_score"))


def test_nothing_assigned():
    _, truth = worked_example()
    result = evaluate_event(np.full(16, -1), truth)
    assert result.counts["dm"] == (0, 2)
    assert result.counts["fake_all"] == (0, 0)
    assert result.counts["trackml_score"] == (0.0, pytest.approx(1.0))
    assert not result.particles[["dm", "perfect", "technical"]].to_numpy().any()


def test_one_cluster_of_everything():
    _, truth = worked_example()
    result = evaluate_event(np.zeros(16, dtype=np.int64), truth)
    assert result.counts["dm"] == (0, 2)
    assert result.counts["fake_rate"] == (1, 1)  # B leads with 5 of 16
    assert result.counts["acorn_atlas_fake_3"] == (1, 1)
    assert result.counts["coverage"] == (16, 16)


def test_permutation_and_renaming_change_nothing():
    _, truth = toy_event(n_tracks=40, seed=3)
    rng = np.random.default_rng(3)
    labels = rng.integers(-1, 45, len(truth))
    expected = evaluate_event(labels, truth).counts
    order = rng.permutation(len(truth))
    shuffled = make_shuffled(truth, order)
    names = rng.permutation(10_000)[:45]
    renamed = np.where(labels < 0, labels, names[labels])
    found = evaluate_event(renamed[order], shuffled).counts
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


def make_shuffled(truth, order):
    """Return the truth with its hits in another order."""
    parts = (truth.hit_id[order], truth.particle_id[order], truth.weight[order])
    return Truth(*parts, truth.particles, truth.event_id)


def test_two_of_four_hits_is_not_double_majority():
    result = evaluate_event(np.array([0, 0, -1, -1, 0]), make_truth([1, 1, 1, 1, 0], {1: (2.0, 0.0)}))
    assert result.counts["dm"] == (0, 1)
    assert result.counts["technical"] == (1, 1)


def test_seven_hits_split_four_and_three():
    result = evaluate_event(np.array([0] * 4 + [1] * 3), make_truth([1] * 7, {1: (2.0, 0.0)}))
    assert result.counts["dm"] == (1, 1)
    assert result.counts["dup_rate"] == (1, 1)
    assert result.counts["fake_dm"] == (1, 2)
    assert result.counts["maskformer_fake"] == (1, 2)


def test_pure_noise_cluster_of_five():
    truth = make_truth([0] * 5 + [1] * 4, {1: (2.0, 0.0)})
    result = evaluate_event(np.array([0] * 5 + [1] * 4), truth)
    assert result.counts["fake_rate"] == (0, 1)  # never fiducial
    assert result.counts["fake_all"] == (1, 2)
    assert result.counts["acorn_atlas_fake_5"] == (0, 1)  # "matched" to particle_id 0
    assert result.counts["maskformer_fake"] == (1, 2)
    noise = result.candidates.iloc[0]
    assert noise.fake_purity and noise.fake_dm and not noise.fiducial and np.isnan(noise.pt)


def test_majority_tie_goes_to_smallest_id():
    truth = make_truth([7, 7, 5, 5, 0, 0], {5: (0.2, 0.0), 7: (2.0, 0.0)}, n_hits={5: 4, 7: 4})
    match = match_clusters(np.array([0, 0, 0, 0, -1, -1]), truth)
    assert truth.particles["particle_id"].to_numpy()[match.majority].tolist() == [5]
    assert match_clusters(np.zeros(6, dtype=int), truth).majority.tolist() == [-1]


def test_completeness_uses_full_event_hits():
    """A sector holds 3 of the particle's 8 hits: a pure cluster of them is no double majority."""
    truth = make_truth([1, 1, 1], {1: (2.0, 0.0)}, n_hits={1: 8})
    result = evaluate_event(np.zeros(3, dtype=int), truth)
    assert result.counts["dm"] == (0, 1)
    assert result.counts["technical"] == (1, 1)


def test_target_without_hit_here_is_not_counted():
    truth = make_truth([1, 1, 1], {1: (2.0, 0.0), 2: (2.0, 0.0)}, n_hits={2: 5})
    assert evaluate_event(np.zeros(3, dtype=int), truth).counts["dm"] == (1, 1)


def test_postfilter_hides_particles_lost_by_the_filter():
    truth = make_truth([1] * 6 + [2] * 4, {1: (2.0, 0.0), 2: (2.0, 0.0)})
    kept = np.array([True] * 3 + [False] * 3 + [True] * 2 + [False] * 2)
    labels = np.where(kept, [0] * 6 + [1] * 4, -1)
    result = evaluate_event(labels, truth, kept=kept)
    assert result.counts["maskformer_dm"] == (0, 2)  # 3 of 6 hits, and 2 hits only
    assert result.counts["maskformer_dm_postfilter"] == (1, 1)
    assert result.counts["maskformer_perfect_postfilter"] == (1, 1)


def test_maskformer_takes_best_target_once():
    """Both candidates prefer particle 1; the one with 5 hits gets it, the other stays unmatched."""
    truth = make_truth([1] * 4 + [2] * 5 + [1] * 5, {1: (2.0, 0.0), 2: (2.0, 0.0)})
    labels = np.array([0] * 4 + [0] * 3 + [-1] * 2 + [1] * 5)
    result = evaluate_event(labels, truth)
    assert result.counts["maskformer_dm"] == (1, 2)  # 5 of 9 hits
    assert result.counts["maskformer_lhc"] == (1, 2)
    assert result.counts["maskformer_fake"] == (1, 2)


def test_maskformer_prefers_the_purer_of_equal_overlaps():
    """Both candidates hold 3 of the 6 hits; the one without noise is taken and is LHC-pure."""
    truth = make_truth([1] * 6 + [0] * 2, {1: (2.0, 0.0)})
    for labels in ([0] * 3 + [1] * 3 + [0] * 2, [1] * 3 + [0] * 3 + [1] * 2):
        assert evaluate_event(np.array(labels), truth).counts["maskformer_lhc"] == (1, 1)


@pytest.mark.parametrize(("n_hits", "perfect"), [(10, 0), (99, 0), (100, 1)])
def test_perfect_needs_more_than_99_percent_purity(n_hits, perfect):
    """All hits of the particle and one of noise: P = n / (n + 1)."""
    truth = make_truth([1] * n_hits + [0], {1: (2.0, 0.0)})
    assert evaluate_event(np.zeros(n_hits + 1, dtype=int), truth).counts["perfect"] == (perfect, 1)


def test_particle_and_candidate_frames():
    labels, truth = worked_example(event_id=9)
    result = evaluate_event(labels, truth, NO_PT_CUT)
    assert result.particles["particle_id"].tolist() == [1, 2, 3]
    assert result.particles["dm"].tolist() == [True, True, True]
    assert result.particles["perfect"].tolist() == [True, False, False]
    assert result.particles["n_hits"].tolist() == [4, 5, 3]
    assert result.particles["n_matched"].tolist() == [4, 3, 2]  # clusters 0, 1, 3
    assert result.particles["n_matched"].sum() == result.counts["fit_accuracy"][0]
    assert result.particles["event_id"].unique().tolist() == [9]
    assert result.candidates["track_id"].tolist() == [0, 1, 2, 3]
    assert result.candidates["n_hits"].tolist() == [4, 4, 3, 3]
    assert result.candidates["pt"].tolist() == [2.0, 1.5, 1.5, 0.5]
    assert result.candidates["fake_dm"].tolist() == [False, False, True, False]
    assert result.candidates["fake_purity"].tolist() == [False] * 4


def test_z0_of_displaced_particle():
    truth = make_truth([1, 1, 1], {1: (2.0, 1.0)})
    truth.particles[["vx", "vy", "vz", "phi"]] = [3.0, 4.0, 50.0, np.arctan2(4.0, 3.0)]
    frame = evaluate_event(np.zeros(3, dtype=int), truth).particles
    assert frame["z0"].item() == pytest.approx(50.0 - 5.0 * np.sinh(1.0))
    assert frame["vr"].item() == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.zeros(3, int), "shape .3,., expected .16,."), (np.zeros(16), "float64, expected an integer type")],
)
def test_wrong_labels(labels, message):
    _, truth = worked_example()
    with pytest.raises(InputError, match=message):
        evaluate_event(labels, truth)


def test_contradicting_truth():
    labels = np.zeros(3, dtype=int)
    with pytest.raises(InputError, match=r"1 particle_id of hits are not listed \(first 9\)"):
        evaluate_event(labels, make_truth([1, 1, 9], {1: (2.0, 0.0)}))
    with pytest.raises(InputError, match="particle 1 has 3 hits but n_hits = 2"):
        evaluate_event(labels, make_truth([1, 1, 1], {1: (2.0, 0.0)}, n_hits={1: 2}))
    unsorted = make_truth([1, 1, 2], {1: (2.0, 0.0), 2: (2.0, 0.0)})
    unsorted.particles["particle_id"] = [2, 1]
    with pytest.raises(InputError, match="particle_id not ascending"):
        evaluate_event(labels, unsorted)


def test_wrong_kept_mask():
    labels, truth = worked_example()
    with pytest.raises(InputError, match="int64 array of shape"):
        evaluate_event(labels, truth, kept=np.ones(16, dtype=np.int64))


def test_selection_cuts():
    particles = make_truth([], {1: (0.9, 0.0), 2: (0.9, -4.0), 3: (float("nan"), 0.0), 4: (5.0, 3.9)}).particles
    particles["n_layers"], particles["n_layer_ids"], particles["n_hits"] = 3, 2, 4
    assert TruthSelection().selected(particles).tolist() == [True, False, False, True]
    assert TruthSelection(pt_operator=">").selected(particles).tolist() == [False, False, False, True]
    assert TruthSelection(eta_operator="<=").selected(particles).tolist() == [True, True, False, True]
    assert TruthSelection(layer_rule="layer_id").selected(particles).tolist() == [False] * 4
    assert TruthSelection(layer_rule="hits", min_layers=4).selected(particles).tolist() == [True, False, False, True]
    assert TruthSelection(eta_max=float("inf")).selected(particles).tolist() == [True, True, False, True]


def test_selection_label():
    assert TruthSelection().label() == "pT >= 0.9 GeV, |eta| < 4, >= 3 layers"
    other = TruthSelection(1.0, ">", float("inf"), layer_rule="hits", min_cluster_size=5)
    assert other.label() == "pT > 1 GeV, >= 3 hits, candidates >= 5 hits"
    assert TruthSelection(**TruthSelection().as_dict()) == TruthSelection()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pt_operator": "=="}, "selection.pt_operator: value '==' is not allowed, expected one of >=, >"),
        ({"layer_rule": "layers"}, "selection.layer_rule: value 'layers'"),
        ({"pt_min": -1.0}, "selection.pt_min: value -1.0 is not allowed, expected a number >= 0"),
        ({"eta_max": "4"}, "selection.eta_max: value '4'"),
        ({"min_cluster_size": 0}, "selection.min_cluster_size: value 0 is not allowed, expected an integer >= 1"),
        ({"min_layers": 2.5}, "selection.min_layers: value 2.5"),
    ],
)
def test_wrong_selection(setting, message):
    with pytest.raises(ConfigError) as error:
        TruthSelection(**setting)
    assert message in str(error.value)
