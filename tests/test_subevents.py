"""Data sets of few tracks: draws, what a sub-event holds, shards, index and errors."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from raw_events import raw_tables, write_raw
from toys import toy_event

from trackbench.data.prepare import DataSelection
from trackbench.data.shard_file import Shard
from trackbench.data.shards import prepare_shard, read_events, read_index, write_index
from trackbench.data.splits import split_events
from trackbench.data.subevents import (
    SubeventConfig,
    cut_event,
    cut_shard,
    parent_of,
    selection_label,
    write_subevent_index,
)
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.sample import Sample
from trackbench.evaluation.selection import TruthSelection

SMALL = SubeventConfig(2, 4, 100, draws=3, seed=5)
ALL = TruthSelection(pt_min=0, eta_max=float("inf"), min_layers=0)


def seen_ids(truth):
    return truth.particles.loc[truth.particles["n_hits"] > 0, "particle_id"].tolist()


def drawn(events):
    return [truth.particles["particle_id"].tolist() for _, truth in events]


# --- one parent


def test_sub_event_by_hand():
    """All hits of the drawn particles in the parent's order, nothing else, counts and weights of the parent."""
    hits, truth = toy_event(6, 10, seed=2, event_id=21000)
    only = SubeventConfig(1, 1, 100, draws=2)
    events = cut_event(hits, truth, only)
    assert [part.event_id for part, _ in events] == [21000000, 21000001]
    for part, part_truth in events:
        assert part_truth.event_id == part.event_id
        pid = part_truth.particles["particle_id"].item()
        own = truth.particle_id == pid
        assert part.hit_id.tolist() == part_truth.hit_id.tolist() == hits.hit_id[own].tolist()
        np.testing.assert_array_equal(part.xyz, hits.xyz[own])
        for name in ("volume_id", "layer_id", "module_id", "valid"):
            np.testing.assert_array_equal(getattr(part, name), getattr(hits, name)[own])
        np.testing.assert_array_equal(part_truth.weight, truth.weight[own])
        assert set(part_truth.particle_id) == {pid}
        row = truth.particles[truth.particles["particle_id"] == pid].reset_index(drop=True)
        pd.testing.assert_frame_equal(part_truth.particles, row)
        assert part_truth.particles["n_hits"].item() == own.sum()


def test_random_draws_are_disjoint_and_seeded():
    hits, truth = toy_event(40, 20, seed=1, event_id=7)
    first = drawn(cut_event(hits, truth, SMALL))
    assert len(first) == 3
    joined = [pid for ids in first for pid in ids]
    assert len(set(joined)) == len(joined)
    assert set(joined) <= set(seen_ids(truth))
    assert all(ids == sorted(ids) for ids in first)
    assert drawn(cut_event(hits, truth, SMALL)) == first
    assert drawn(cut_event(hits, truth, replace(SMALL, seed=6))) != first
    other = replace(hits, event_id=8), replace(truth, event_id=8)
    assert drawn(cut_event(*other, SMALL)) != first
    assert drawn(cut_event(hits, truth, replace(SMALL, length=1000))) == first


def test_numbers_of_particles_are_uniform_with_both_ends():
    hits, truth = toy_event(40, 0, seed=1)
    sizes = []
    for seed in range(200):
        sizes += [len(ids) for ids in drawn(cut_event(hits, truth, replace(SMALL, seed=seed)))]
    counts = np.bincount(sizes, minlength=5)
    assert counts[:2].sum() == 0 and len(counts) == 5
    assert counts[2:].min() > 160  # 200 expected each, binomial sigma 11.5


def test_every_particle_is_drawn_equally_often():
    hits, truth = toy_event(12, 0, seed=1)
    ids = seen_ids(truth)
    config = SubeventConfig(3, 3, 1000, draws=1)
    count = dict.fromkeys(ids, 0)
    for seed in range(400):
        for pid in drawn(cut_event(hits, truth, replace(config, seed=seed)))[0]:
            count[pid] += 1
    expected = 400 * 3 / len(ids)
    assert max(abs(n - expected) for n in count.values()) < 5 * expected**0.5


def test_a_particle_without_hits_is_never_drawn():
    hits, truth = toy_event(5, 0, seed=3)
    ids = seen_ids(truth)
    ghost = truth.particles.iloc[[0]].assign(particle_id=1, n_hits=0, n_layers=0, n_layer_ids=0, n_hits_all=0)
    table = pd.concat([ghost, truth.particles], ignore_index=True)
    events = cut_event(hits, replace(truth, particles=table), SubeventConfig(len(ids), len(ids), 1000, draws=1))
    assert drawn(events) == [ids]


@pytest.mark.parametrize("seed", range(4))
def test_first_n_draws_from_the_reduced_table(seed):
    """The loop of the source, on particle numbers."""
    hits, truth = toy_event(40, 20, seed=1, event_id=7)
    config = SubeventConfig(2, 30, 1000, draws=5, mode="first_n", seed=seed)
    found = drawn(cut_event(hits, truth, config))
    large = toy_event(200, 0, event_id=7)
    sizes = [len(ids) for ids in drawn(cut_event(*large, replace(config, mode="random")))]
    table, expected = seen_ids(truth), []
    for size in sizes:
        table = table[:size]
        expected.append(table)
    assert found == expected


def test_evaluation_divides_by_the_weight_of_the_sub_event():
    hits, truth = toy_event(20, 20, seed=1)
    _, part = cut_event(hits, truth, SMALL)[0]
    assert part.weight.sum() < 0.5
    result = evaluate_event(part.particle_id % 1000003, part, ALL)
    assert result.value("trackml_score") == pytest.approx(1.0)
    assert result.counts["dm"] == (sum(part.particles["n_hits"] >= 3), len(part.particles))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low": 0}, r"subevents\.sets\.0-4\.low: value 0, expected an integer >= 1"),
        ({"high": 1}, r"subevents\.sets\.2-1\.high: value 1, expected >= low = 2"),
        ({"length": 0}, r"subevents\.sets\.2-4\.length: value 0"),
        ({"length": 7.5}, r"subevents\.sets\.2-4\.length: value 7\.5, expected an integer"),
        ({"draws": True}, r"subevents\.sets\.2-4\.draws: value True"),
        ({"draws": 1000}, r"subevents\.sets\.2-4\.draws: value 1000, expected at most 999"),
        ({"mode": "first"}, r"subevents\.sets\.2-4\.mode: value 'first', expected one of random, first_n"),
        ({"seed": -1}, r"subevents\.sets\.2-4\.seed: value -1"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **change)


def test_bad_parents_are_refused():
    hits, truth = toy_event(8, 5, seed=1, event_id=21003)
    n_seen = len(seen_ids(truth))
    words = (
        rf"event 21003: {n_seen} particles with a hit, expected the 30 of 3 draws of 10-10; "
        r"lower subevents\.sets\.10-10\.draws or take larger parents"
    )
    with pytest.raises(InputError, match=words):
        cut_event(hits, truth, SubeventConfig(10, 10, 1000, draws=3))
    with pytest.raises(InputError, match="expected the 10 of 1 draws"):
        cut_event(hits, truth, SubeventConfig(10, 10, 1000, draws=3, mode="first_n"))
    most = len(cut_event(hits, truth, SubeventConfig(5, 5, 1000, draws=1))[0][0])
    words = rf"event 21003000: {most} hits, expected at most {most - 1}; raise subevents\.sets\.5-5\.length to {most} "
    with pytest.raises(InputError, match=words):
        cut_event(hits, truth, SubeventConfig(5, 5, most - 1, draws=1))
    noise = toy_event(0, 20, event_id=21004)
    with pytest.raises(InputError, match="event 21004: no particle with a hit"):
        cut_event(*noise, SMALL)
    empty = noise[0].take(np.empty(0, int)), replace(noise[1], hit_id=[], particle_id=np.empty(0, int), weight=[])
    with pytest.raises(InputError, match="event 21004: no particle with a hit"):
        cut_event(*empty, SMALL)


# --- shards and index


def parents(folder, n_events=5, shard_events=2, detector="full"):
    """Prepare toy parents, split 2, 1, 2. Returns the index."""
    raw = folder / "raw"
    for event_id in range(1, n_events + 1):
        write_raw(raw_tables(15, 5, seed=event_id), raw, event_id)
    out = folder / f"parents-{shard_events}-{detector}"
    paths = []
    for shard in range(-(-n_events // shard_events)):
        paths.append(out / f"shard-{shard:04d}-hits.parquet")
        particles = out / f"shard-{shard:04d}-particles.parquet"
        selection = DataSelection(detector)
        prepare_shard([raw], shard, shard_events, n_events, selection, paths[-1], particles)
    splits = split_events(n_events, {"train": 2, "val": 1, "test": n_events - 3}, 3)
    write_index(paths, out / "index.csv", out / "manifest.json", splits, {"source": "local"}, ALL.selected)
    return out / "index.csv"


def cut(parents_index, out, config=SMALL):
    """Cut and index all shards of parents. Returns the index."""
    paths = []
    for shard in sorted(parents_index.parent.glob("shard-*-hits.parquet")):
        paths.append(out / shard.name)
        cut_shard(shard, config, paths[-1], out / shard.name.replace("hits", "particles"))
    fields = {"source": "local", "seed": 3, "truth_selection": ALL.as_dict()}
    index, manifest = out / "index.csv", out / "manifest.json"
    write_subevent_index(paths, parents_index, index, manifest, fields, ALL.selected)
    return index


def test_sub_events_survive_the_disk(tmp_path):
    source = parents(tmp_path)
    index = cut(source, tmp_path / "tracks-2-4")
    table, parent_table = read_index(index), read_index(source)
    assert table["event_id"].tolist() == [parent * 1000 + k for parent in range(1, 6) for k in range(3)]
    split = dict(zip(parent_table["event_id"], parent_table["split"], strict=True))
    assert table["split"].tolist() == [split[parent_of(event_id)] for event_id in table["event_id"]]
    assert sorted(set(table["split"])) == ["test", "train", "val"]
    for name in ("train", "val", "test"):
        expected = [event for hits, truth in read_events(source, name) for event in cut_event(hits, truth, SMALL)]
        found = list(read_events(index, name))
        assert len(found) == len(expected) > 0
        for (hits, truth), (other, other_truth) in zip(found, expected, strict=True):
            assert hits.event_id == truth.event_id == other.event_id
            np.testing.assert_array_equal(hits.hit_id, other.hit_id)
            np.testing.assert_array_equal(hits.xyz, other.xyz)
            np.testing.assert_array_equal(truth.particle_id, other_truth.particle_id)
            np.testing.assert_array_equal(truth.weight, other_truth.weight)
            pd.testing.assert_frame_equal(truth.particles, other_truth.particles)
    hits = table.set_index("event_id")["n_hits"]
    assert all(hits[event.event_id] == len(event) for event, _ in read_events(index, "test"))
    assert table["n_particles"].between(2, 4).all()
    assert (table["n_selected"] == table["n_particles"]).all()  # no cut at all


def test_manifest_is_that_of_a_sample(tmp_path):
    source = parents(tmp_path)
    index = cut(source, tmp_path / "tracks-2-4")
    manifest = json.loads(index.with_name("manifest.json").read_text())
    parent = json.loads(source.with_name("manifest.json").read_text())
    assert manifest["subevents"] == {**SMALL.as_dict(), "parents_sha256": parent["sha256"]}
    assert set(parent) - {"source"} <= set(manifest)
    assert manifest["sigma_z_measured"] == parent["sigma_z_measured"]
    assert manifest["sha256"] != parent["sha256"]
    assert manifest["truth_selection"]["eta_max"] is None  # infinite, which JSON does not have
    assert manifest["n_events_per_split"] == {"train": 6, "val": 3, "test": 6}
    sample = Sample.load(index.with_name("manifest.json"))
    assert sample.n_test == 6 and not sample.truth_filter
    words = "hits of the full detector, noise removed by truth, sub-events of 2-4 particles"
    assert sample.selection_label == selection_label(SMALL) == words
    assert sample.label().startswith("6 test events (local data;") and sample.label().endswith(words)


def test_conditions_of_the_parents_are_carried_on(tmp_path):
    source = parents(tmp_path, shard_events=5)
    shard = Shard(source.with_name("shard-0000-hits.parquet"))
    out = tmp_path / "out"
    cut_shard(shard.path, SMALL, out / "shard-0000-hits.parquet", out / "shard-0000-particles.parquet")
    metadata = Shard(out / "shard-0000-hits.parquet").metadata
    assert metadata["raw"] == shard.metadata["raw"]
    assert metadata["selection"] == shard.metadata["selection"]
    assert [set(event) for event in metadata["events"]] == [set(shard.events[0])] * 15


def test_sharding_of_the_parents_changes_nothing(tmp_path):
    first = cut(parents(tmp_path, shard_events=2), tmp_path / "a")
    second = cut(parents(tmp_path, shard_events=5), tmp_path / "b")
    third = cut(parents(tmp_path, shard_events=2), tmp_path / "c")
    for name in ("shard-0000-hits.parquet", "shard-0001-particles.parquet", "index.csv", "manifest.json"):
        assert first.with_name(name).read_bytes() == third.with_name(name).read_bytes(), name
    manifests = [index.with_name("manifest.json").read_bytes() for index in (first, second)]
    assert manifests[0] == manifests[1]
    tables = [read_index(index).drop(columns="shard") for index in (first, second)]
    pd.testing.assert_frame_equal(*tables)


def test_shards_that_do_not_belong_together_are_refused(tmp_path):
    source = parents(tmp_path)
    index = cut(source, tmp_path / "a")
    shards = sorted((tmp_path / "a").glob("shard-*-hits.parquet"))
    out = (tmp_path / "x.csv", tmp_path / "x.json", {}, ALL.selected)
    with pytest.raises(InputError, match=r"x\.csv: no shards"):
        write_subevent_index([], source, *out)
    with pytest.raises(InputError, match="0 sub-events of parent 5, expected 3, by the index of the parents"):
        write_subevent_index(shards[:2], source, *out)
    other = parents(tmp_path / "other", n_events=4)
    with pytest.raises(InputError, match="3 sub-events of parent 5, expected 0"):
        write_subevent_index(shards, other, *out)
    cut(source, tmp_path / "b", replace(SMALL, draws=2))
    mixed = [*shards[:2], tmp_path / "b" / shards[2].name]
    with pytest.raises(InputError, match="its shards were cut in different ways"):
        write_subevent_index(mixed, source, *out)
    of_parents = sorted(source.parent.glob("shard-*-hits.parquet"))
    with pytest.raises(InputError, match="its shards were cut in different ways"):
        write_subevent_index(of_parents, source, *out)
    source.with_name("manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        write_subevent_index(shards, source, *out)
    assert index.exists() and not (tmp_path / "x.csv").exists()


def test_parents_without_the_full_detector_are_refused(tmp_path):
    source = parents(tmp_path, detector="pixel")
    words = "pixel hits, noise kept, expected hits of the full detector; prepare the parents with detector: full"
    with pytest.raises(InputError, match=words):
        cut(source, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_refused_event_leaves_no_shard(tmp_path):
    source = parents(tmp_path)
    with pytest.raises(InputError, match=r"length to \d+ or more"):
        cut(source, tmp_path / "out", replace(SMALL, length=3))
    assert not any((tmp_path / "out").iterdir())
