"""Attention, track fractions and the surface table, against hand-computed and naive numbers."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import toy_event

from trackbench import surface_table as table_module
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation import surfaces as evaluation
from trackbench.evaluation.sample import Sample
from trackbench.geometry.projection import REGIONS
from trackbench.surface_table import read_talk, surface_markdown, surface_table
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS
from trackbench.trackers.layers.surfaces import sets_of_labels

TALK = Path(__file__).resolve().parents[1] / "config" / "talk_surfaces.csv"


@functools.cache
def toy():
    return toy_event(n_tracks=120, n_noise=150, seed=2)


def test_attention_identities():
    n = 40
    assert evaluation.attention(np.array([0, n]), n) == 1.0
    assert evaluation.attention(np.arange(n + 1), n) == pytest.approx(1 / n)
    assert np.isnan(evaluation.attention(np.array([0]), 0))


def test_attention_of_disjoint_sets_is_bounded_by_coverage():
    rng = np.random.default_rng(3)
    for _ in range(20):
        labels = rng.integers(-5, rng.integers(1, 30), size=200)
        offsets, members = sets_of_labels(labels)
        k, covered = len(offsets) - 1, (labels >= 0).mean()
        value = evaluation.attention(offsets, 200)
        assert value >= covered**2 / k - 1e-12
        assert evaluation.attention_pairs(offsets, members, 200) == pytest.approx(value)


@pytest.mark.parametrize("portion", [7, 20_000_000])
def test_distinct_pairs_and_blocks_against_the_naive_matrix(monkeypatch, portion):
    monkeypatch.setattr(evaluation, "_PAIRS_AT_ONCE", portion)
    rng = np.random.default_rng(4)
    n = 300
    sets = [np.sort(rng.choice(n - 20, size=rng.integers(3, 40), replace=False)) for _ in range(12)]
    offsets, members = np.concatenate(([0], np.cumsum([len(s) for s in sets]))), np.concatenate(sets)
    allowed = np.zeros((n, n), dtype=bool)
    for found in sets:
        allowed[np.ix_(found, found)] = True
    assert evaluation.attention_pairs(offsets, members, n) == pytest.approx(allowed.sum() / n**2)
    assert evaluation.attention(offsets, n) > allowed.sum() / n**2
    first = [min([k for k, found in enumerate(sets) if hit in found], default=99) for hit in range(n)]
    order = np.argsort(first, kind="stable")
    blocks = [
        [allowed[np.ix_(order[a : a + 128], order[b : b + 128])].any() for b in (0, 128, 256)] for a in (0, 128, 256)
    ]
    assert evaluation.block_density(offsets, members, n) == pytest.approx(np.mean(blocks))


def test_no_clusters_at_all():
    empty = np.empty(0, dtype=int)
    assert evaluation.attention_pairs(np.zeros(1, int), empty, 5) == 0
    assert evaluation.block_density(np.zeros(1, int), empty, 5) == 0
    offsets, members = sets_of_labels(np.full(5, -1))
    assert offsets.tolist() == [0] and members.size == 0


def hand_made_truth(particle_id):
    particles = pd.DataFrame(0.0, index=range(4), columns=list(PARTICLE_COLUMNS))
    particles["particle_id"] = [1, 2, 3, 4]
    particles["pt"] = [2.0, 1.0, 0.5, 0.95]
    particle_id = np.array(particle_id)
    return Truth(np.arange(1, len(particle_id) + 1), particle_id, np.ones(len(particle_id)), particles)


def hand_made():
    """Rows 0..9 lie outside the region. A: 4 hits, B: 4, C: pT too low, D: 2 hits only; two noise hits.

    Sets: {A A A n}, {A B B} and {B B B C} (B's second hit in both), {C C D}, {D n}: the last one is too small.
    """
    particle_id = [0] * 10 + [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 0, 0]
    sets = [[10, 11, 12, 23], [13, 14, 15], [15, 16, 17, 18], [19, 20, 21], [22, 24]]
    offsets = np.concatenate(([0], np.cumsum([len(found) for found in sets])))
    return offsets, np.concatenate(sets), np.arange(10, 25), hand_made_truth(particle_id)


def test_score_of_a_hand_made_region():
    score = evaluation.score_region(*hand_made())
    np.testing.assert_allclose(score.best_fraction, [0.75, 0.75])
    # A: 3 of 4 hits, 3 of 4 in the set. B: 3 of 4 and 3 of 4. Neither 2-of-4 set counts.
    np.testing.assert_array_equal(score.matched, [True, True])
    assert (score.n_hits, score.n_clusters) == (15, 4)
    assert score.attention == pytest.approx((16 + 9 + 16 + 9) / 15**2)
    assert score.attention_pairs == pytest.approx((50 - 1) / 15**2)  # the pair (15, 15) counts once
    assert score.coverage == pytest.approx(13 / 15)
    assert score.block_density == 1.0


def test_half_is_not_a_majority():
    truth = hand_made_truth([1, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    # A's halves; B whole, but only half of its set
    offsets, members = sets_of_labels(np.array([0, 0, 1, 1, 2, 2, 2, 2, 2, 2]))
    score = evaluation.score_region(offsets, members, np.arange(10), truth)
    np.testing.assert_allclose(score.best_fraction, [0.0, 1.0])  # A's sets have two hits and do not count
    np.testing.assert_array_equal(score.matched, [False, False])


def test_members_from_another_region_are_refused():
    offsets, members, rows, truth = hand_made()
    with pytest.raises(InputError, match="clusters of event 0: a hit from another region"):
        evaluation.score_region(offsets, members - 1, rows, truth)


def test_pooled_over_events():
    one = evaluation.score_region(*hand_made())
    truth = hand_made_truth([1, 1, 1, 0])
    two = evaluation.score_region(np.array([0, 3]), np.array([0, 1, 2]), np.arange(4), truth)
    row = evaluation.pool_scores([one, two])
    assert row["recon_ratio"] == pytest.approx((0.75 + 0.75 + 1) / 3)
    assert row["recon_ratio_err"] == pytest.approx(np.std([0.75, 0.75, 1.0], ddof=1) / 3**0.5)
    assert row["fully_contained"] == pytest.approx(1 / 3)
    assert (row["majority_contained"], row["dm"], row["dm_hi"]) == (1.0, 1.0, 1.0)
    assert 0.5 < row["dm_lo"] < 0.7  # 3 of 3
    assert (row["tracks"], row["clusters"], row["n_events"]) == (1.5, 2.5, 2)
    assert row["attention"] == pytest.approx((50 / 225 + 9 / 16) / 2)
    assert row["attention_err"] == pytest.approx((9 / 16 - 50 / 225) / 2)


def test_pooling_nothing():
    empty = evaluation.score_region(np.zeros(1, int), np.empty(0, int), np.empty(0, int), hand_made_truth([1, 1, 1]))
    row = evaluation.pool_scores([empty])
    assert (row["clusters"], row["tracks"], row["n_hits"]) == (0, 0, 0)
    assert all(np.isnan(row[name]) for name in ("recon_ratio", "dm", "dm_lo", "attention", "attention_err", "coverage"))


def test_surface_table_has_every_region_and_the_talk():
    table = surface_table([toy(), toy_event(n_tracks=80, n_noise=50, seed=9)], talk_path=TALK)
    assert list(table.columns) == list(table_module.COLUMNS)
    measured, talk = table[table["source"] == "measured"], table[table["source"] == "talk"]
    assert len(measured) == len(MASK_SETTINGS) * len(REGIONS)
    assert len(talk) == 8
    assert measured[["recon_ratio", "dm", "attention", "attention_err", "coverage"]].notna().all(axis=None)
    assert (measured["attention_pairs"] <= measured["attention"] + 1e-12).all()
    assert (measured["n_events"] == 2).all()
    quoted = talk.set_index(["region", "method"]).loc[("endcap", "dbscan")]
    assert (quoted["recon_ratio"], quoted["dm"], quoted["clusters"], quoted["attention"]) == (
        0.985,
        0.832,
        756,
        0.00052,
    )
    markdown = surface_markdown(table)
    assert markdown.count("talk (quoted)") == len(measured)
    assert markdown.count("\n") == 2 + 2 * len(measured)


def test_surface_table_settings_replace_single_options():
    default = surface_table([toy()], {"dbscan": {}})
    wide = surface_table([toy()], {"dbscan": {"endcap_eps": 9.0}})
    assert default.loc[0].equals(wide.loc[0])  # barrel
    assert wide.loc[1, "clusters"] != default.loc[1, "clusters"]


def test_surface_table_does_not_depend_on_hit_order():
    hits, truth = toy()
    order = np.random.default_rng(2).permutation(len(hits))
    shuffled = (
        hits.take(order),
        replace(truth, hit_id=truth.hit_id[order], particle_id=truth.particle_id[order], weight=truth.weight[order]),
    )
    pd.testing.assert_frame_equal(surface_table([toy()]), surface_table([shuffled]))


def test_percolation_is_reported(caplog):
    surface_table([toy()], {"dbscan": {"barrel_eps": 300.0}})
    assert "barrel, dbscan: attention" in caplog.text and "percolate" in caplog.text


def test_surface_table_errors(tmp_path):
    with pytest.raises(InputError, match="surface table: no events"):
        surface_table([])
    with pytest.raises(ConfigError, match=r"surfaces\.helix_hash: does not cluster on projection surfaces"):
        surface_table([toy()], {"helix_hash": {}})
    with pytest.raises(InputError, match=r"absent.csv: cannot be read"):
        read_talk(tmp_path / "absent.csv")
    (tmp_path / "talk.csv").write_text("region,method\nbarrel,dbscan\n")
    with pytest.raises(InputError, match=r"talk.csv: no column recon_ratio"):
        read_talk(tmp_path / "talk.csv")


def test_caption_says_the_caveats():
    for words in ("sigma_z", "one endcap", "0.000285", "assumed", "no independent confirmation"):
        assert words in evaluation.caption()


SAMPLE = Sample(True, "simulate", 200, 5.5, 0.98, 1, "hits of the full detector, noise REMOVED BY TRUTH", True)


def test_caption_says_data_selection_and_interval():
    text = evaluation.caption(SAMPLE, "wilson")
    assert text.startswith(
        "Measured: 1 test event (simulated, TrackML-like; 200 pile-up, sigma_z = 5.5 mm, hit efficiency 0.98); pixel"
        " hits, noise REMOVED BY TRUTH; tracks with pT > 0.9 GeV and >= 3 hits in the region, no eta cut. WARNING"
        " truth_filter: noise and particles out of acceptance removed by truth. Recon."
    )
    assert "68.27 % Wilson for DM" in text and "Clopper" not in text


def test_rows_say_conditions_selection_and_use_the_interval():
    table = surface_table([toy()], {"dbscan": {}}, TALK, sample=SAMPLE, interval="wilson")
    measured, talk = table[table["source"] == "measured"], table[table["source"] == "talk"]
    assert set(measured["selection"]) == {
        "tracks with pT > 0.9 GeV and >= 3 hits in the region, no eta cut; pixel hits, noise REMOVED BY TRUTH;"
        " truth_filter: noise and particles out of acceptance removed by truth"
    }
    assert measured[["pileup", "sigma_z"]].to_numpy().tolist() == [[200, 5.5]] * 3
    assert talk[["pileup", "sigma_z"]].isna().all(axis=None) and set(talk["selection"]) == {"not stated"}
    barrel = measured.iloc[0]
    exact = surface_table([toy()], {"dbscan": {}}).iloc[0]
    assert barrel["dm_hi"] - barrel["dm_lo"] < exact["dm_hi"] - exact["dm_lo"]
    assert evaluation.interval_named("wilson")(round(barrel["dm"] * barrel["tracks"]), barrel["tracks"]) == (
        pytest.approx((barrel["dm_lo"], barrel["dm_hi"]))
    )
