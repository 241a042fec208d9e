"""Prepared shards cut short or with changed bytes: an error that names the file, or the very same events."""

import shutil

import numpy as np
import pandas as pd
import pytest
from toy_tasks import write_toy_sample

from trackbench.data.shards import read_events
from trackbench.errors import InputError

POSITIONS = 60


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """Folder of a prepared sample of one shard."""
    return write_toy_sample(tmp_path_factory.mktemp("shard"), shards=(4,), n_val=0).parent


@pytest.fixture
def copy(sample, tmp_path):
    return shutil.copytree(sample, tmp_path / "sample")


def events(folder):
    return list(read_events(folder / "index.csv", "train"))


def is_same(found, expected):
    if len(found) != len(expected):
        return False
    for (hits, truth), (other_hits, other_truth) in zip(found, expected, strict=True):
        pairs = [(hits.xyz, other_hits.xyz), (hits.hit_id, other_hits.hit_id), (hits.module_id, other_hits.module_id)]
        pairs += [(truth.particle_id, other_truth.particle_id), (truth.weight, other_truth.weight)]
        if hits.event_id != other_hits.event_id or not all(np.array_equal(one, other) for one, other in pairs):
            return False
        try:
            pd.testing.assert_frame_equal(truth.particles, other_truth.particles)
        except AssertionError:
            return False
    return True


@pytest.mark.parametrize("part", ["hits", "particles"])
def test_changed_bytes(sample, copy, part, injected, all_moments):
    expected = events(sample)
    path = copy / f"shard-0-{part}.parquet"
    data = path.read_bytes()
    positions = np.random.default_rng(0).integers(0, len(data), POSITIONS * (5 if all_moments else 1)).tolist()
    found = 0
    for at in positions:
        with injected("changed byte in a shard"):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
            try:
                assert is_same(events(copy), expected), f"byte {at} changed the events silently"
            except InputError as error:
                found += 1
                assert str(path.name) in str(error) or "does not belong" in str(error)
    assert found > len(positions) / 3  # the others are in parts that say nothing about the events


@pytest.mark.parametrize("part", ["hits", "particles"])
def test_cut_short(copy, part, injected):
    path = copy / f"shard-0-{part}.parquet"
    data = path.read_bytes()
    for size in np.random.default_rng(1).integers(0, len(data), 8).tolist():
        with injected("truncated shard"):
            path.write_bytes(data[:size])
            with pytest.raises(InputError, match=rf"{path.name}: missing or damaged shard .*; remove it and "):
                events(copy)
