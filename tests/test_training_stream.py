"""The stream of training events: each event once per epoch, in an order that needs no history, in bounded memory."""

import weakref
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
from toy_tasks import write_toy_sample

from trackbench.data.shard_file import Shard
from trackbench.data.shards import read_events, read_index
from trackbench.errors import ConfigError, InputError
from trackbench.training import stream as module
from trackbench.training.stream import EventStream


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Five shards with 5, 3, 7, 4 and 6 training events."""
    return write_toy_sample(tmp_path_factory.mktemp("sample"), shards=(5, 3, 7, 4, 6))


def numbers(batches):
    return [[hits.event_id for hits, _ in batch] for batch in batches]


def training_ids(index):
    table = read_index(index)
    return sorted(table["event_id"][table["split"] == "train"])


def first_of_epoch(stream, epoch):
    return next(step for step in range(10**6) if stream.epoch(step) == epoch)


@pytest.mark.parametrize(("batch_size", "shard_buffer"), [(1, 1), (4, 2), (4, 5), (100, 3), (3, 100)])
def test_each_event_comes_once_per_epoch_in_batches_of_nearly_equal_size(index, batch_size, shard_buffer):
    stream = EventStream(index, "train", batch_size, seed=1, shard_buffer=shard_buffer)
    for epoch in range(4):
        start, end = first_of_epoch(stream, epoch), first_of_epoch(stream, epoch + 1)
        batches = numbers(stream.batch(step) for step in range(start, end))
        assert sorted(chain.from_iterable(batches)) == training_ids(index)
        assert max(map(len, batches)) <= batch_size
        if shard_buffer >= 5:  # one group: as few batches as possible, none smaller than the largest by two
            assert len(batches) == -(-25 // batch_size)
            assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_the_order_depends_on_seed_and_step_only(index):
    stream = EventStream(index, "train", 4, seed=1, shard_buffer=2)
    forward = numbers(stream.batch(step) for step in range(30))
    again = EventStream(index, "train", 4, seed=1, shard_buffer=2)
    order = np.random.default_rng(0).permutation(30)
    assert [numbers([again.batch(step)])[0] for step in order] == [forward[step] for step in order]
    assert numbers([EventStream(index, "train", 4, seed=1, shard_buffer=2).batch(29)]) == forward[29:]
    other = EventStream(index, "train", 4, seed=2, shard_buffer=2)
    assert numbers(other.batch(step) for step in range(30)) != forward
    ends = [first_of_epoch(stream, epoch) for epoch in (1, 2)]
    assert forward[: ends[0]] != forward[ends[0] : ends[1]]  # each epoch has its own order


def test_starting_late_reads_only_what_the_step_needs(index, monkeypatch):
    read = []
    monkeypatch.setattr(module, "Shard", lambda path: read.append(path.name) or Shard(path))
    stream = EventStream(index, "train", 4, seed=1, shard_buffer=2)
    stream.batch(500)
    assert 1 <= len(read) <= 2
    steps = [step for step in range(490, 530) if stream.epoch(step) == stream.epoch(500) + 1]
    read.clear()
    for step in steps:
        stream.batch(step)
    assert len(read) <= 5 and len(set(read)) == len(read)  # each file at most once in an epoch


def test_memory_holds_one_group_of_shards(index, monkeypatch):
    alive, peak = [], []

    class Counting(Shard):
        def read_many(self, rows):
            events = super().read_many(rows)
            alive.extend(weakref.ref(hits) for hits, _ in events)
            peak.append(sum(ref() is not None for ref in alive))
            return events

    monkeypatch.setattr(module, "Shard", Counting)
    stream = EventStream(index, "train", 4, seed=1, shard_buffer=2)
    for step in range(40):
        stream.batch(step)
    assert len(alive) > 100  # many were read ...
    assert max(peak) <= 7 + 6  # ... never more held than the two largest shards have
    alive.clear(), peak.clear()
    for _ in stream.events():
        pass
    assert max(peak) <= 7 + 7  # the shard that is read, and the one just handed out


def test_one_group_that_holds_all_is_read_once(index, monkeypatch):
    read = []
    monkeypatch.setattr(module, "Shard", lambda path: read.append(path) or Shard(path))
    stream = EventStream(index, "train", 4, seed=1, shard_buffer=5)
    for step in range(60):
        stream.batch(step)
    assert len(read) == 5


def test_events_are_those_of_the_slow_reader(index):
    slow = list(read_events(index, "train"))
    fast = list(EventStream(index, "train", 4).events())
    assert len(slow) == len(fast) == 25
    for (hits, truth), (others, their_truth) in zip(slow, fast, strict=True):
        assert hits.event_id == others.event_id == their_truth.event_id
        for name in ("hit_id", "xyz", "volume_id", "layer_id", "module_id", "valid"):
            np.testing.assert_array_equal(getattr(hits, name), getattr(others, name))
            assert getattr(hits, name).dtype == getattr(others, name).dtype
        np.testing.assert_array_equal(truth.hit_id, their_truth.hit_id)
        np.testing.assert_array_equal(truth.particle_id, their_truth.particle_id)
        np.testing.assert_array_equal(truth.weight, their_truth.weight)
        pd.testing.assert_frame_equal(truth.particles, their_truth.particles)


def test_validation_is_in_the_order_of_the_index(index):
    table = read_index(index)
    wanted = table["event_id"][table["split"] == "val"].tolist()
    batches = numbers(EventStream(index, "val", 4, seed=1).ordered())
    assert list(chain.from_iterable(batches)) == wanted
    assert [len(batch) for batch in batches] == [4, 4, 2]


def test_batches_hold_events_of_similar_length(tmp_path):
    index = write_toy_sample(tmp_path, shards=(32,), n_val=0, tracks=lambda k: 1 + k)
    stream = EventStream(index, "train", 4, seed=0, shard_buffer=1)
    lengths = [[len(hits) for hits, _ in stream.batch(step)] for step in range(8)]
    # 32 events are one pool of eight batches: sorted by length, so batches do not overlap; then shuffled.
    ranges = sorted((min(batch), max(batch)) for batch in lengths)
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    assert [min(batch) for batch in lengths] != [low for low, _ in ranges]


def test_digest_says_which_events(index, tmp_path):
    assert EventStream(index, "train", 4).digest == EventStream(index, "train", 8, seed=5).digest
    assert EventStream(index, "train", 4).digest != EventStream(index, "val", 4).digest
    text = index.read_text().replace(",train,", ",other,").replace(",val,", ",train,").replace(",other,", ",val,")
    swapped = tmp_path / "index.csv"
    swapped.write_text(text)
    assert EventStream(swapped, "train", 4).digest == EventStream(index, "val", 4).digest


def test_bad_input_is_said(index, tmp_path):
    with pytest.raises(InputError, match=r"index\.csv: no event in split 'test', expected at least one"):
        EventStream(index, "test", 4)
    with pytest.raises(ConfigError, match="split: value 'training'"):
        EventStream(index, "training", 4)
    with pytest.raises(ConfigError, match=r"training\.batch_size: value 0"):
        EventStream(index, "train", 0)
    with pytest.raises(InputError, match="cannot be read"):
        EventStream(tmp_path / "index.csv", "train", 4)


@pytest.mark.parametrize("part", ["hits", "particles"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_shard_is_an_input_error(tmp_path, part, damage):
    index = write_toy_sample(tmp_path, shards=(4, 4))
    path = tmp_path / f"shard-1-{part}.parquet"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:1000])
    else:
        content[200] ^= 255  # inside a data page
        path.write_bytes(content)
    with pytest.raises(InputError, match="missing or damaged shard"):
        for split in ("train", "val"):
            stream = EventStream(index, split, 4)
            for step in range(3):
                stream.batch(step)


def test_an_index_that_names_other_events_is_an_input_error(tmp_path):
    index = write_toy_sample(tmp_path, shards=(4,))
    lines = index.read_text().splitlines()
    lines[-1] = "99," + lines[-1].partition(",")[2]
    index.write_text("\n".join(lines) + "\n")
    split = lines[-1].split(",")[1]
    with pytest.raises(InputError, match="no event 99, expected the events of the index"):
        list(EventStream(index, split, 4).events())
