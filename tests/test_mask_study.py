"""What masks keep and cost: pairs against loops, pooling by hand, memory against the size of the matrices."""

import numpy as np
import pandas as pd
import pytest
from toys import toy_event

from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.sample import Sample
from trackbench.mask_cost import CostPlan, layer_costs
from trackbench.mask_study import (
    COLUMNS,
    MASKS,
    QUANTITIES,
    TABLE_COLUMNS,
    mask_markdown,
    mask_study,
    mask_table,
    pair_recall,
    same_particle_pairs,
)
from trackbench.trackers.layers.batch import collate
from trackbench.trackers.layers.masks import AttentionMask
from trackbench.trackers.layers.network_config import MaskConfig

SMALL = CostPlan(calls=1, heads=1, width=8)


@pytest.fixture(scope="module")
def study():
    return mask_study(
        [toy_event(seed=s, event_id=s) for s in (1, 2)], plan=CostPlan(sizes=(60, 90), calls=2, timed_events=1)
    )


def slow_pairs(truth, pt_min):
    fast = dict(zip(truth.particles["particle_id"], truth.particles["pt"] > pt_min, strict=True))
    ids = truth.particle_id
    return {
        (i, j)
        for i in range(len(ids))
        for j in range(len(ids))
        if i != j and ids[i] == ids[j] and ids[i] > 0 and fast[ids[i]]
    }


@pytest.mark.parametrize("pt_min", [0.0, 0.9, 100.0])
def test_same_particle_pairs(pt_min):
    _, truth = toy_event(n_tracks=8, n_noise=5)
    queries, keys = same_particle_pairs(truth, pt_min)
    pairs = list(zip(queries.tolist(), keys.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == slow_pairs(truth, pt_min)
    assert bool(pairs) == (pt_min < 100)


@pytest.mark.parametrize("name", MASKS)
def test_what_a_mask_keeps(study, name):
    hits, truth = toy_event(seed=1, event_id=1)
    config = MaskConfig(**MASKS[name])
    clusters = None
    if config.kind == "cluster":
        from trackbench.trackers.base import build_tracker
        from trackbench.trackers.layers.mask_settings import MASK_SETTINGS

        clusters = [build_tracker(config.clusterer, MASK_SETTINGS[config.clusterer]).reconstruct(hits)]
    dense = AttentionMask.build(config, collate([hits], clusters)).dense()[0, 0]
    rows = study[(study["mask"] == name) & (study["event_id"] == 1) & (study["events"] == "sample")]
    found = rows[rows["backend"].isna() | (rows["backend"] == "")].set_index("quantity")
    assert found.loc["share", "value"] == pytest.approx(dense.double().mean().item(), rel=1e-12)
    for quantity, pt_min in (("recall", 0.0), ("recall_pt", 0.9)):
        pairs = sorted(slow_pairs(truth, pt_min))
        assert found.loc[quantity, "n"] == len(pairs)
        assert found.loc[quantity, "value"] == pytest.approx(np.mean([dense[q, k].item() for q, k in pairs]))


def test_no_pairs():
    mask = AttentionMask.build(MaskConfig(), collate([toy_event()[0]]))
    value, n = pair_recall(mask, np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert np.isnan(value)
    assert n == 0


def test_rows_of_a_study(study):
    assert list(study) == list(COLUMNS)
    assert set(study["quantity"]) == set(QUANTITIES)
    assert set(study["mask"]) == set(MASKS)
    costs = study[study["quantity"].isin(["build_ms", "wall_ms", "cpu_ms", "memory_mb"])]
    assert (costs["value"] >= 0).all()
    times = costs[costs["quantity"] == "wall_ms"]
    assert (times["n"] == 2).all()
    assert ((times["lo"] <= times["value"]) & (times["value"] <= times["hi"])).all()
    assert costs["n_hits"].nunique() == 3  # the first event and the two sizes
    used = costs.groupby("mask")["backend"].agg(set).to_dict()
    assert used["cluster"] == used["8 sectors + 0.1"] == {"sdpa", "varlen"}
    assert used["cone 0.3"] == used["window 256"] == {"sdpa"}
    tiled = study[study["events"] == "tiled"]
    assert set(tiled["n_hits"]) == {60, 90}
    assert not tiled["quantity"].isin(["recall", "share"]).any()
    assert "1 thread" in study["setup"].iloc[0] or "threads" in study["setup"].iloc[0]


def test_all_pairs_keep_everything(study):
    row = mask_table(study).set_index("mask").loc["all pairs"].iloc[0]
    assert row[["share", "reduction", "recall", "recall_pt", "block_density"]].tolist() == [1, 1, 1, 1, 1]


def test_pooling_by_hand():
    rows = []
    for event, (share, recall, n, wall) in enumerate([(0.1, 0.5, 10, 2.0), (0.3, 1.0, 30, 4.0)]):
        facts = {"mask": "m", "kind": "cone", "events": "sample", "event_id": event, "n_hits": 100 * (event + 1)}
        values = {"share": (share, 1), "block_density": (0.5, 1), "recall": (recall, n), "recall_pt": (np.nan, 0)}
        rows += [facts | {"backend": "", "quantity": q, "value": v, "n": k} for q, (v, k) in values.items()]
        costs = {"build_ms": 1.0, "wall_ms": wall, "cpu_ms": wall, "memory_mb": 7.0}
        rows += [
            facts | {"backend": "sdpa", "quantity": q, "value": v, "lo": v - 1, "hi": v + 1, "n": 3}
            for q, v in costs.items()
        ]
    table = mask_table(pd.DataFrame(rows).reindex(columns=list(COLUMNS)))
    assert list(table) == [*TABLE_COLUMNS, "wall_lo", "wall_hi"]
    assert len(table) == 1
    row = table.iloc[0]
    assert row["share"] == pytest.approx(0.2)
    assert row["reduction"] == pytest.approx(5)
    assert row["recall"] == pytest.approx((0.5 * 10 + 1.0 * 30) / 40)
    assert np.isnan(row["recall_pt"])
    assert (row["n_events"], row["n_hits"]) == (2, 150)
    assert (row["wall_ms"], row["wall_lo"], row["wall_hi"], row["memory_mb"]) == (3, 2, 4, 7)
    sample = Sample(True, "simulate", 20, None, None, 2, "some hits")
    text = mask_markdown(table, "a machine", sample.label())
    assert "| m | sdpa | 0.20000 | 5 | 0.500 | 0.875 | - | - | 1.00 | 3.00 | 3.00 | 7.0 |" in text
    assert "Sample: 2 test events (simulated, TrackML-like; 20 pile-up); some hits. Pairs:" in text
    assert "Pairs: 2 events of 150 hits on average. Time and memory: 150 hits; a machine." in text
    assert mask_markdown(table.iloc[:0], "a machine", sample.label()).count("\n") == 2


def test_a_study_read_back_pools_the_same(study, tmp_path):
    study.to_csv(tmp_path / "masks.csv", index=False)
    again = pd.read_csv(tmp_path / "masks.csv")
    for events in ("sample", "tiled"):
        pd.testing.assert_frame_equal(mask_table(again, events), mask_table(study, events), check_dtype=False)


def test_memory_is_that_of_the_matrices():
    """A dense mask of 3000 hits has 9 MB, the scores of its attention several times that; a partition needs neither."""
    rng = np.random.default_rng(0)
    hits, _ = toy_event(n_tracks=2, n_noise=3000)
    batch = collate([hits], [rng.integers(0, 300, len(hits))])
    plan = CostPlan(calls=1, heads=1, width=8, backends=("sdpa", "varlen"))
    found = {
        row["backend"]: row["value"]
        for row in layer_costs(MaskConfig("cluster"), batch, plan, 0)
        if row["quantity"] == "memory_mb"
    }
    assert 9 <= found["sdpa"] <= 200
    assert found["varlen"] < 5


def test_no_dense_mask_of_large_events():
    plan = CostPlan(largest_dense=100)
    assert plan.backends_for(MaskConfig("cluster"), 101) == ["varlen"]
    assert plan.backends_for(MaskConfig("cone"), 101) == []
    assert plan.backends_for(MaskConfig("padding"), 101) == ["sdpa", "varlen"]
    assert CostPlan(backends=("flex", "varlen")).backends_for(MaskConfig("cone"), 100) == ["flex"]


def test_an_event_without_hits():
    hits, truth = toy_event(n_tracks=0, n_noise=0)
    rows = mask_study([(hits, truth)], {"cone": {"kind": "cone"}, "all": {}}, SMALL)
    assert rows.loc[rows["quantity"] == "share", "value"].isna().all()
    assert len(mask_table(rows)) == 3


def test_wrong_input():
    event = toy_event()
    with pytest.raises(ConfigError, match=r"masks\.a\.radios: unknown key, .*; did you mean 'radius'\?"):
        mask_study([event], {"a": {"kind": "cone", "radios": 1.0}}, SMALL)
    with pytest.raises(ConfigError, match="tracker 'density_peek': does not exist"):
        mask_study([event], {"a": {"kind": "cluster", "clusterer": "density_peek"}}, SMALL)
    with pytest.raises(
        ConfigError, match=r"masks\.a\.clusterer: value 'helix_hash', expected one of dbscan, density_peaks"
    ):
        mask_study([event], {"a": {"kind": "cluster", "clusterer": "helix_hash"}}, SMALL)
    with pytest.raises(InputError, match="mask study: no events"):
        mask_study([], None, SMALL)
    with pytest.raises(ConfigError, match="mask study: no masks"):
        mask_study([event], {}, SMALL)
    with pytest.raises(ConfigError, match=r"masks\.backends: value 'auto', expected one of sdpa, varlen, flex"):
        CostPlan(backends=("auto",))
    with pytest.raises(ConfigError, match=r"masks\.calls: value 0"):
        CostPlan(calls=0)
