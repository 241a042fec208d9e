"""Preparing events: selections, counts, splits, shards, padding and sectors."""

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from raw_events import DATA, SAMPLE, raw_tables, write_raw
from toys import toy_event

from trackbench.data import read_event
from trackbench.data.hits import HIT_COLUMNS, Hits
from trackbench.data.padding import pad_hits
from trackbench.data.particle_id import pack_particle_id
from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event, build_hits, vertex_positions
from trackbench.data.sectors import merge_labels, phi_sectors, take_truth
from trackbench.data.shard_file import Shard
from trackbench.data.shards import prepare_shard, read_events, read_index, write_index
from trackbench.data.splits import split_events
from trackbench.data.truth import PARTICLE_COLUMNS
from trackbench.errors import ConfigError, InputError


def hand_event():
    """Raw (hits, particles, truth): particles A (central), B (|eta| > 4), C (no hit) and noise.

    A: pixel barrel layers 2, 4, pixel endcap layer 4 twice, one strip hit. B: one endcap hit. Truth is
    in another order than the hits.
    """
    a, b, c = pack_particle_id([1, 2, 2], [1, 1, 2], [0, 1, 0], [0, 5, 0]).tolist()
    rows = [  # hit_id, x, y, z, volume, layer, module, particle
        (1, 32, 0, 10, 8, 2, 1, a),
        (2, 72, 0, 20, 8, 4, 1, a),
        (3, 0, 100, 700, 9, 4, 1, a),
        (4, 0, 101, 701, 9, 4, 2, a),
        (5, 260, 0, 80, 13, 2, 1, a),
        (6, 31, 0, 1500, 9, 14, 1, b),
        (7, 40, 0, 0, 8, 2, 2, 0),
        (8, 0.5, 0, -1500, 7, 2, 1, 0),  # |eta| of the hit is 8.7
    ]
    table = pd.DataFrame(rows, columns=[*HIT_COLUMNS, "particle_id"])
    truth = table[["hit_id", "particle_id"]].assign(weight=table["hit_id"] / 100)[::-1].reset_index(drop=True)
    columns = ["particle_id", "vx", "vy", "vz", "px", "py", "pz", "q", "nhits"]
    particles = pd.DataFrame(
        [(c, 0, 0, 9, 0, -1, 0, -1, 0), (b, 5, 0, 7, 0.1, 0, 4.0, 1, 1), (a, 0, 0, 5, 3, 4, 0, 1, 5)], columns=columns
    )
    return (table.drop(columns="particle_id"), particles, truth), (a, b, c)


def test_pixel_selection_keeps_noise_and_counts_by_hand():
    frames, (a, b, c) = hand_event()
    hits, truth = build_event(frames, DataSelection(), 17)
    assert hits.hit_id.tolist() == truth.hit_id.tolist() == [1, 2, 3, 4, 6, 7, 8]
    assert truth.particle_id.tolist() == [a, a, a, a, b, 0, 0]
    assert truth.weight.tolist() == [0.01, 0.02, 0.03, 0.04, 0.06, 0.07, 0.08]
    assert hits.xyz[2].tolist() == [0, 100, 700]
    assert hits.event_id == truth.event_id == 17
    table = truth.particles.set_index("particle_id")
    assert list(truth.particles.columns) == list(PARTICLE_COLUMNS)
    assert table.index.tolist() == [a, b, c]
    assert table["n_hits"].tolist() == [4, 1, 0]
    assert table["n_layers"].tolist() == [3, 1, 0]  # (8, 2), (8, 4), (9, 4)
    assert table["n_layer_ids"].tolist() == [2, 1, 0]  # 2, 4
    assert table["n_hits_all"].tolist() == [5, 1, 0]
    assert table["generation"].tolist() == [0, 1, 0]
    assert table["q"].tolist() == [1, 1, -1]
    assert table["pt"].tolist() == pytest.approx([5, 0.1, 1])
    assert table["eta"].tolist() == pytest.approx([0, math.asinh(40), 0])
    assert table["phi"].tolist() == pytest.approx([math.atan2(4, 3), 0, -math.pi / 2])


@pytest.mark.parametrize(
    ("selection", "hit_ids", "n_hits"),
    [
        (DataSelection("full"), [1, 2, 3, 4, 5, 6, 7, 8], [5, 1, 0]),
        (DataSelection(hit_eta_max=4), [1, 2, 3, 4, 7], [4, 0, 0]),
        (DataSelection(truth_filter=True), [1, 2, 3, 4], [4, 0, 0]),
        (DataSelection("full", hit_eta_max=1.0, truth_filter=True), [1, 2, 5], [3, 0, 0]),
    ],
)
def test_other_selections(selection, hit_ids, n_hits):
    frames, _ = hand_event()
    hits, truth = build_event(frames, selection)
    assert hits.hit_id.tolist() == truth.hit_id.tolist() == hit_ids
    assert truth.particles["n_hits"].tolist() == n_hits
    assert truth.particles["n_hits_all"].tolist() == [5, 1, 0]


def test_selection_labels_and_errors():
    assert DataSelection().label() == "pixel hits, noise kept"
    label = DataSelection("full", 3.0, True).label()
    assert label.startswith("hits of the full detector, hit |eta| <= 3, ")
    assert "REMOVED BY TRUTH" in label
    for settings, words in (
        ({"detector": "strips"}, "data.detector: value 'strips', expected pixel or full"),
        ({"hit_eta_max": 0}, "data.hit_eta_max: value 0"),
        ({"hit_eta_max": True}, "data.hit_eta_max: value True"),
        ({"truth_filter": 1}, "data.truth_filter: value 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            DataSelection(**settings)


def test_build_hits_needs_no_truth():
    (raw, particles, truth), _ = hand_event()
    selection = DataSelection(hit_eta_max=4)
    np.testing.assert_array_equal(
        build_hits(raw, selection).hit_id, build_event((raw, particles, truth), selection)[0].hit_id
    )
    with pytest.raises(ConfigError, match=r"data\.truth_filter: needs truth"):
        build_hits(raw, DataSelection(truth_filter=True))


def test_event_without_hits_or_particles():
    (raw, particles, truth), _ = hand_event()
    hits, found = build_event((raw[:0], particles, truth[:0]), DataSelection())
    assert len(hits) == len(found) == 0
    assert found.particles["n_hits"].tolist() == [0, 0, 0]
    noise = truth.assign(particle_id=0)
    hits, found = build_event((raw, particles[:0], noise), DataSelection(truth_filter=True))
    assert len(hits) == len(found.particles) == 0


def naive_counts(hits, truth):
    """Counts of each particle by plain Python."""
    for particle_id in truth.particles["particle_id"]:
        own = [i for i in range(len(hits)) if truth.particle_id[i] == particle_id]
        places = [(int(hits.volume_id[i]), int(hits.layer_id[i])) for i in own]
        yield len(own), len(set(places)), len({layer for _, layer in places})


def test_counts_against_plain_python():
    tables = raw_tables(n_tracks=40, seed=3)
    hits, truth = build_event(tuple(tables[part] for part in RAW_PARTS), DataSelection())
    table = truth.particles
    assert list(zip(table["n_hits"], table["n_layers"], table["n_layer_ids"], strict=True)) == list(
        naive_counts(hits, truth)
    )


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared TrackML sample")
def test_real_sample():
    hits, truth = build_event(read_event(SAMPLE, RAW_PARTS), DataSelection(), 1)
    table = truth.particles
    assert list(zip(table["n_hits"], table["n_layers"], table["n_layer_ids"], strict=True)) == list(
        naive_counts(hits, truth)
    )
    raw = read_event(SAMPLE, ["particles"])[0].sort_values("particle_id")
    np.testing.assert_array_equal(table["n_hits_all"], raw["nhits"])
    assert set(hits.volume_id) == {7, 8, 9}
    assert (truth.particle_id == 0).sum() > 0
    assert (table["generation"] > 0).sum() > 0


def test_vertices_are_medians_of_prompt_primaries():
    ids = pack_particle_id([1, 1, 1, 2, 2, 3], [1, 2, 3, 1, 2, 1], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0])
    vz = [1.0, 1.2, 9.0, -4.0, 50.0, 7.0]
    vx = [0.0, 0.0, 0.01, 0.0, 0.0, 30.0]  # the last one decayed far from the beam
    zeros = dict.fromkeys(PARTICLE_COLUMNS, 0)
    table = pd.DataFrame({**zeros, "particle_id": ids, "vz": vz, "vx": vx, "generation": (ids >> 24) & 0xFFF})
    assert vertex_positions(table).tolist() == [1.2, -4.0]
    assert vertex_positions(table[:0]).tolist() == []


# --- splits


def test_split_by_counts():
    split = split_events(10, {"train": 5, "val": 2, "test": 3}, seed=4)
    assert list(split) == list(range(10))
    assert sorted(split.values()) == ["test"] * 3 + ["train"] * 5 + ["val"] * 2
    assert split == split_events(10, {"test": 3, "val": 2, "train": 5}, seed=4)
    assert split != split_events(10, {"train": 5, "val": 2, "test": 3}, seed=5)
    by_id = split_events(range(100, 110), {"train": 5, "val": 2, "test": 3}, seed=4)
    assert list(by_id.values()) == list(split.values())
    assert list(by_id) == list(range(100, 110))


def test_split_in_order_and_by_fractions():
    split = split_events(1900, {"train": 0.8, "val": 0.1, "test": 0.1}, seed=None)  # the published HEPTv2 split
    assert [split[0], split[1519], split[1520], split[1709], split[1710], split[1899]] == [
        "train", "train", "val", "val", "test", "test",
    ]  # fmt: skip
    thirds = split_events(10, {"train": 1 / 3, "val": 1 / 3, "test": 1 / 3})
    assert sorted(list(thirds.values()).count(name) for name in ("train", "val", "test")) == [3, 3, 4]
    assert split_events(0, {"test": 0}) == {}


@pytest.mark.parametrize(
    ("events", "sizes", "words"),
    [
        (10, {"train": 5, "test": 4}, "sizes sum to 9, expected the number of events, 10"),
        (10, {"train": 0.5, "test": 0.4}, "fractions sum to 0.9, expected 1"),
        (10, {"train": 5, "tset": 5}, "data.events.tset: unknown split, expected train, val, test"),
        (1, {"train": -1, "test": 2}, "data.events.train: value -1"),
        (1, {"train": "1"}, "data.events.train: value '1'"),
        ([3, 3], {"train": 2}, "an event is given twice"),
    ],
)
def test_wrong_splits(events, sizes, words):
    with pytest.raises(ConfigError, match=words):
        split_events(events, sizes)


# --- shards


def prepare(tmp_path, raw, n_events, shard_events, out, **selection):
    """Prepare all shards of ``raw`` and the index. Returns the index."""
    paths = []
    for shard in range(-(-n_events // shard_events)):
        paths.append(out / f"shard-{shard:04d}-hits.parquet")
        particles = out / f"shard-{shard:04d}-particles.parquet"
        source = raw(shard) if callable(raw) else raw
        prepare_shard([source], shard, shard_events, n_events, DataSelection(**selection), paths[-1], particles)
    splits = split_events(n_events, {"val": 1, "test": n_events - 1}, seed=1)
    write_index(paths, out / "index.csv", out / "manifest.json", splits, {"seed": 1}, lambda t: t["pt"] > 0.9)
    return out / "index.csv"


def raw_set(tmp_path, n_events=5):
    for event_id in range(1, n_events + 1):
        write_raw(raw_tables(seed=event_id), tmp_path / "raw", event_id)
    return tmp_path / "raw"


def assert_same(first, second):
    for (hits, truth), (other, other_truth) in zip(first, second, strict=True):
        for name in ("hit_id", "xyz", "volume_id", "layer_id", "module_id", "valid"):
            np.testing.assert_array_equal(getattr(hits, name), getattr(other, name))
        np.testing.assert_array_equal(truth.particle_id, other_truth.particle_id)
        np.testing.assert_array_equal(truth.weight, other_truth.weight)
        pd.testing.assert_frame_equal(truth.particles, other_truth.particles)
        assert hits.event_id == truth.event_id == other.event_id


def test_events_survive_the_disk(tmp_path):
    index = prepare(tmp_path, raw_set(tmp_path), 5, 2, tmp_path / "out")
    table = read_index(index)
    assert table["event_id"].tolist() == [1, 2, 3, 4, 5]
    assert table["shard"].tolist() == ["0000", "0000", "0001", "0001", "0002"]
    found = {event[0].event_id: event for split in ("train", "val", "test") for event in read_events(index, split)}
    expected = {}
    for event_id in range(1, 6):
        tables = raw_tables(seed=event_id)
        expected[event_id] = build_event(tuple(tables[part] for part in RAW_PARTS), DataSelection(), event_id)
    assert_same([found[k] for k in sorted(found)], [expected[k] for k in sorted(expected)])
    for row in table.itertuples():
        particles = expected[row.event_id][1].particles
        assert row.n_hits == len(expected[row.event_id][0])
        assert row.n_particles == (particles["n_hits"] > 0).sum()
        assert row.n_selected == (particles["pt"] > 0.9).sum()


def test_split_and_limit(tmp_path):
    index = prepare(tmp_path, raw_set(tmp_path), 5, 2, tmp_path / "out")
    test = read_index(index).query("split == 'test'")["event_id"].tolist()
    assert len(test) == 4
    assert [hits.event_id for hits, _ in read_events(index, "test")] == test
    assert [hits.event_id for hits, _ in read_events(index, "test", limit=3)] == test[:3]
    assert [hits.event_id for hits, _ in read_events(index, "test", limit=2)] == [test[0], test[2]]  # spread
    assert list(read_events(index, "train")) == []


def test_sharding_changes_no_event_and_no_hash(tmp_path):
    raw = raw_set(tmp_path)
    first = prepare(tmp_path, raw, 5, 2, tmp_path / "a")
    second = prepare(tmp_path, raw, 5, 5, tmp_path / "b")
    assert_same(list(read_events(first, "test")), list(read_events(second, "test")))
    hashes = [json.loads((tmp_path / name / "manifest.json").read_text())["sha256"] for name in "ab"]
    assert hashes[0] == hashes[1]
    third = prepare(tmp_path, raw, 5, 5, tmp_path / "c", detector="full", hit_eta_max=1.0)
    assert json.loads(third.with_name("manifest.json").read_text())["sha256"] != hashes[0]


def test_same_bytes_twice(tmp_path):
    raw = raw_set(tmp_path, 2)
    for name in "ab":
        prepare(tmp_path, raw, 2, 2, tmp_path / name)
    for path in sorted((tmp_path / "a").iterdir()):
        digests = [hashlib.sha256((tmp_path / name / path.name).read_bytes()).hexdigest() for name in "ab"]
        assert digests[0] == digests[1], path.name


def test_hash_is_of_the_numbers(tmp_path):
    index = prepare(tmp_path, raw_set(tmp_path, 1), 1, 1, tmp_path / "out")
    shard = Shard(index.with_name("shard-0000-hits.parquet"))
    digest = hashlib.sha256()
    for frame in (pd.read_parquet(shard.path), pd.read_parquet(shard.particles_path)):
        for name in frame:
            digest.update(name.encode() + frame[name].to_numpy().tobytes())
    assert shard.events[0]["sha256"] == digest.hexdigest()
    whole = hashlib.sha256(f"1 {digest.hexdigest()}\n".encode()).hexdigest()
    assert json.loads(index.with_name("manifest.json").read_text())["sha256"] == whole


def test_layout_of_the_files(tmp_path):
    """The columns and row groups that docs/architecture.md promises."""
    index = prepare(tmp_path, raw_set(tmp_path, 2), 2, 2, tmp_path / "out")
    hits = pd.read_parquet(index.with_name("shard-0000-hits.parquet"))
    assert list(hits.columns) == ["event_id", *HIT_COLUMNS, "particle_id", "weight"]
    assert hits["event_id"].unique().tolist() == [1, 2]
    particles = pd.read_parquet(index.with_name("shard-0000-particles.parquet"))
    assert list(particles.columns) == ["event_id", *PARTICLE_COLUMNS]
    assert index.read_text().splitlines()[0] == "event_id,split,shard,n_hits,n_particles,n_selected"


def test_simulated_shard_folders_and_manifest(tmp_path):
    """Each shard folder holds its own events; conditions come from its manifest."""
    for shard, (pileup, event_ids) in enumerate(((5, (1, 2)), (20, (3,)))):
        folder = tmp_path / "events" / f"shard-{shard:04d}"
        for event_id in event_ids:
            write_raw(raw_tables(seed=event_id), folder, event_id, ".parquet")
        content = {"sigma_z": 5.5, "hit_efficiency": 0.98, "pileup": pileup, "unrelated": 1}
        (folder / "manifest.json").write_text(json.dumps(content))
    index = prepare(tmp_path, lambda k: tmp_path / "events" / f"shard-{k:04d}", 3, 2, tmp_path / "out")
    manifest = json.loads(index.with_name("manifest.json").read_text())
    assert (manifest["sigma_z"], manifest["hit_efficiency"], manifest["hard_process"]) == (5.5, 0.98, None)
    assert manifest["pileup"] == {"0000": 5, "0001": 20}
    assert manifest["n_events_per_split"] == {"train": 0, "val": 1, "test": 2}
    assert manifest["seed"] == 1
    assert manifest["selection"] == {"detector": "pixel", "hit_eta_max": None, "truth_filter": False, "cells": False}
    vz = [truth.particles["vz"] for split in ("val", "test") for _, truth in read_events(index, split)]
    assert manifest["sigma_z_measured"] == pytest.approx(np.std(np.concatenate(vz), ddof=1))
    with pytest.raises(InputError, match=r"shard-0001: 1 events, expected 2 for shard 1"):
        prepare_shard([tmp_path / "events" / "shard-0001"], 1, 2, 4, DataSelection(), tmp_path / "x", tmp_path / "y")
    with pytest.raises(ConfigError, match="number 2 is outside 3 events in shards of 2"):
        prepare_shard([tmp_path / "events"], 2, 2, 3, DataSelection(), tmp_path / "x", tmp_path / "y")


def test_event_without_hits_survives_the_disk(tmp_path):
    tables = raw_tables()
    empty = {part: table[:0] for part, table in tables.items()}
    write_raw(empty, tmp_path / "raw", 1)
    write_raw(tables, tmp_path / "raw", 2)
    index = prepare(tmp_path, tmp_path / "raw", 2, 2, tmp_path / "out")
    events = [event for split in ("val", "test") for event in read_events(index, split)]
    assert sorted(len(hits) for hits, _ in events) == [0, len(tables["hits"])]


# --- padding


def test_padding():
    hits, _ = toy_event(event_id=9)
    padded = pad_hits(hits, len(hits) + 5)
    assert len(padded) == len(hits) + 5
    assert padded.valid.sum() == len(hits)
    assert padded.valid[: len(hits)].all()
    np.testing.assert_array_equal(padded.xyz[: len(hits)], hits.xyz)
    assert (padded.xyz[len(hits) :] == 0).all()
    assert (padded.hit_id[len(hits) :] == -1).all()
    assert padded.hit_id.dtype == np.int64
    assert padded.event_id == 9
    assert len(pad_hits(hits, len(hits))) == len(hits)
    assert pad_hits(hits.take(np.array([], dtype=int)), 2).valid.tolist() == [False, False]


def test_padding_carries_features():
    (raw, _, _), _ = hand_event()
    hits = Hits.from_frame(raw.assign(charge=0.5), features=("charge",))
    assert pad_hits(hits, 9).features["charge"].tolist() == [0.5] * 8 + [0.0]


def test_padding_never_cuts():
    hits, _ = toy_event(event_id=9)
    n = len(hits)
    with pytest.raises(InputError, match=rf"event 9: {n} hits, expected at most {n - 1}; set data.pad_to to {n} or"):
        pad_hits(hits, n - 1)
    with pytest.raises(ConfigError, match=r"data\.pad_to: value 0"):
        pad_hits(hits, 0)


# --- sectors


def ring(degrees):
    """Hits on a circle at the given azimuths."""
    phi = np.radians(degrees)
    n = len(phi)
    frame = pd.DataFrame({"hit_id": np.arange(n) + 10, "x": np.cos(phi), "y": np.sin(phi), "z": 0.0})
    return Hits.from_frame(frame.assign(volume_id=8, layer_id=2, module_id=1))


def test_angle_sectors_by_hand():
    hits = ring([-179, -61, -59, 59, 61, 179])
    sectors = phi_sectors(hits, 3)
    assert [sector.index.tolist() for sector in sectors] == [[0, 1], [2, 3], [4, 5]]
    assert [sector.hits.hit_id.tolist() for sector in sectors] == [[10, 11], [12, 13], [14, 15]]
    assert all(sector.core.all() for sector in sectors)
    # 5 % of 120 degrees are 6 degrees on both sides, also across +-180.
    overlapping = phi_sectors(hits, 3, overlap=0.05)
    assert [sector.index.tolist() for sector in overlapping] == [[0, 1, 2, 5], [1, 2, 3, 4], [0, 3, 4, 5]]
    assert overlapping[0].core.tolist() == [True, True, False, False]


def test_count_sectors_by_hand():
    hits = ring([170, -170, 0, 10, 20, 30, 40])
    sectors = phi_sectors(hits, 3, "count")
    assert [sector.index.tolist() for sector in sectors] == [[1, 2, 3], [4, 5], [0, 6]]
    overlapping = phi_sectors(hits, 3, "count", overlap=0.5)  # margins round(1.5) = 2, 1, 1
    assert [sorted(sector.index) for sector in overlapping] == [[0, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6], [0, 1, 5, 6]]


@pytest.mark.parametrize("mode", ["angle", "count"])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("n_sectors", [1, 2, 3, 7])
def test_sectors_cover_the_event_once(mode, overlap, n_sectors):
    hits, _ = toy_event(40, 30, seed=2)
    hits = pad_hits(hits, len(hits) + 7)
    sectors = phi_sectors(hits, n_sectors, mode, overlap)
    core = np.concatenate([sector.index[sector.core] for sector in sectors])
    assert sorted(core) == np.flatnonzero(hits.valid).tolist()
    for sector in sectors:
        assert (np.diff(sector.index) > 0).all()
        np.testing.assert_array_equal(sector.hits.hit_id, hits.hit_id[sector.index])
    if mode == "count":
        sizes = [sector.core.sum() for sector in sectors]
        assert max(sizes) - min(sizes) <= 1


def test_truth_of_a_sector_asks_for_whole_tracks():
    """The trap of sectorised metrics: h_p must stay the count of the full event."""
    hits, truth = toy_event(40, 30, seed=2)
    sector = phi_sectors(hits, 4)[1]
    part = take_truth(truth, sector.index)
    np.testing.assert_array_equal(part.hit_id, sector.hits.hit_id)
    np.testing.assert_array_equal(part.particle_id, truth.particle_id[sector.index])
    pd.testing.assert_frame_equal(part.particles, truth.particles)
    inside = pd.Series(part.particle_id[part.particle_id > 0]).value_counts()
    full = part.particles.set_index("particle_id")["n_hits"].reindex(inside.index)
    assert (inside < full).any()  # tracks cut by the border exist, and their full counts are kept


def test_merged_labels():
    hits = ring([-170, -100, 0, 10, 100, 170])
    sectors = phi_sectors(pad_hits(hits, 7), 3, overlap=0.2)
    labels = [np.arange(len(sector.hits)) % 2 for sector in sectors]
    labels[1] = np.full(len(sectors[1].hits), -1)
    merged = merge_labels(sectors, labels, 7)
    assert merged[6] == -1  # padding
    assert merged[2] == merged[3] == -1
    assert set(merged[[0, 1]]).isdisjoint(merged[[4, 5]])
    whole = phi_sectors(hits, 1)
    assert merge_labels(whole, [np.array([5, 5, -1, 0, 0, 1])], 6).tolist() == [5, 5, -1, 0, 0, 1]


def test_sectors_of_nothing_and_wrong_arguments():
    empty = ring([])
    for mode in ("angle", "count"):
        assert [len(sector.hits) for sector in phi_sectors(empty, 3, mode, 0.2)] == [0, 0, 0]
    for arguments, words in (((0,), "count: value 0"), ((2, "eta"), "mode: value 'eta'"), ((2, "angle", 1), "overlap")):
        with pytest.raises(ConfigError, match=words):
            phi_sectors(empty, *arguments)


def test_a_shard_takes_events_from_several_sources(tmp_path):
    tables = raw_tables()
    for folder, event_id in (("a", 3), ("a", 1), ("b", 2)):
        write_raw(tables, tmp_path / folder, event_id)
    sources, hits = [tmp_path / "a", tmp_path / "b"], tmp_path / "shard-0000-hits.parquet"
    prepare_shard(sources, 0, 2, 3, DataSelection(), hits, tmp_path / "shard-0000-particles.parquet")
    assert [event["event_id"] for event in Shard(hits).events] == [1, 2]
    write_raw(tables, tmp_path / "b", 3)
    with pytest.raises(InputError, match="same event number in two"):
        prepare_shard(sources, 0, 2, 3, DataSelection(), tmp_path / "x", tmp_path / "y")
