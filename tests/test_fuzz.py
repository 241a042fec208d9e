"""Spoil valid files at random: only typed errors, or tables that keep every promise of the reader."""

import gzip
import io
import zipfile

import numpy as np
import pytest
from raw_events import raw_tables, write_raw

from trackbench.data import iter_dataset, read_event
from trackbench.data.checks import MAX_CHARGE
from trackbench.data.prepare import DataSelection, build_event
from trackbench.data.schema import COLUMNS, OPTIONAL, PARTS
from trackbench.data.shards import prepare_shard, read_events, write_index
from trackbench.errors import InputError
from trackbench.geometry.detector import is_known_module

SEED = 20


def flip_bytes(data, rng):
    data = bytearray(data)
    for position in rng.integers(0, len(data), rng.integers(1, 4)):
        data[position] = rng.integers(0, 256)
    return bytes(data)


def change_digit(data, rng):
    """Change a character to another one of numbers: the file still looks like a table."""
    data = bytearray(data)
    data[rng.integers(0, len(data))] = rng.choice(list(b"0123456789.,-e\n"))
    return bytes(data)


def truncate(data, rng):
    return data[: rng.integers(0, len(data))]


def drop_lines(data, rng):
    lines = data.splitlines(keepends=True)
    keep = rng.random(len(lines)) > 1 / len(lines)
    return b"".join(line for line, kept in zip(lines, keep, strict=True) if kept)


def repeat_line(data, rng):
    lines = data.splitlines(keepends=True)
    lines.insert(rng.integers(0, len(lines)), lines[rng.integers(0, len(lines))])
    return b"".join(lines)


def _columns(data, change):
    rows = [line.split(b",") for line in data.splitlines()]
    return b"\n".join(b",".join(change(row)) for row in rows) + b"\n"


def drop_column(data, rng):
    k = rng.integers(0, data.split(b"\n")[0].count(b",") + 1)
    return _columns(data, lambda row: row[:k] + row[k + 1 :])


def swap_columns(data, rng):
    """Swap the values of two columns but not their names: types and ranges get mixed."""
    header, _, body = data.partition(b"\n")
    i, j = rng.integers(0, header.count(b",") + 1, 2)

    def swap(row):
        row[i], row[j] = row[j], row[i]
        return row

    return header + b"\n" + _columns(body, swap)


def strange_value(data, rng):
    lines = data.splitlines()
    k = rng.integers(1, len(lines))
    row = lines[k].split(b",")
    values = [b"nan", b"inf", b"", b"1e400", b"-1", b"0", b"abc", b"1.5", b"99999999999999999999", b'"', b"\xff", b" "]
    row[rng.integers(0, len(row))] = values[rng.integers(0, len(values))]
    lines[k] = b",".join(row)
    return b"\n".join(lines) + b"\n"


CSV_MUTATIONS = (
    flip_bytes, change_digit, truncate, drop_lines, repeat_line, drop_column, swap_columns, strange_value
)  # fmt: skip
BINARY_MUTATIONS = (flip_bytes, truncate)


def check_invariants(tables):
    """What ``read_event`` promises about the tables it returns."""
    for part, table in tables.items():
        expected = [name for name in COLUMNS[part] if name in table or name not in OPTIONAL.get(part, ())]
        assert list(table.columns) == expected
        for name, kind in COLUMNS[part].items():
            if name in table:
                assert str(table[name].dtype) == kind
                assert np.isfinite(table[name].to_numpy()).all()
    hits, cells, particles, truth = (tables[part] for part in PARTS)
    assert hits["hit_id"].is_unique
    assert particles["particle_id"].is_unique
    assert set(truth["hit_id"]) == set(hits["hit_id"])
    assert len(truth) == len(hits)
    assert set(cells["hit_id"]) <= set(hits["hit_id"])
    assert set(truth["particle_id"]) <= {0, *particles["particle_id"]}
    assert is_known_module(*(hits[name].to_numpy() for name in ("volume_id", "layer_id", "module_id"))).all()
    assert cells["value"].between(0, MAX_CHARGE).all()
    assert (truth["weight"] >= 0).all()
    assert (np.hypot(particles["px"], particles["py"]) > 0).all()


def outcomes(tmp_path, suffix, mutations, n_trials):
    """Mutate one file per trial. Returns the numbers of (errors, accepted events)."""
    tables = raw_tables()
    prefix = write_raw(tables, tmp_path, suffix=suffix)
    n_errors = n_accepted = 0
    for trial in range(n_trials):
        rng = np.random.default_rng([SEED, trial])
        path = tmp_path / f"{prefix.name}-{PARTS[trial % len(PARTS)]}{suffix}"
        good = path.read_bytes()
        mutate = mutations[rng.integers(0, len(mutations))]
        path.write_bytes(mutate(good, rng))
        try:
            found = dict(zip(PARTS, read_event(prefix), strict=True))
        except InputError as error:
            n_errors += 1
            assert str(error).startswith(str(tmp_path)), (trial, mutate)
            assert "\n" not in str(error), (trial, mutate)
        else:
            n_accepted += 1
            check_invariants(found)
            hits, truth = build_event((found["hits"], found["particles"], found["truth"]), DataSelection())
            assert truth.particles["n_hits"].sum() == (truth.particle_id > 0).sum() <= len(hits)
        path.write_bytes(good)
    return n_errors, n_accepted


def test_csv(tmp_path):
    n_errors, n_accepted = outcomes(tmp_path, ".csv", CSV_MUTATIONS, 400)
    assert n_errors > 200  # most changes are noticed
    assert n_accepted > 20  # and the fuzzing is subtle enough to test accepted tables too


def test_csv_gz(tmp_path):
    n_errors, n_accepted = outcomes(tmp_path, ".csv.gz", BINARY_MUTATIONS, 100)
    assert n_errors > 90  # gzip has a checksum; a few header bytes carry no meaning
    assert n_errors + n_accepted == 100


def test_parquet(tmp_path):
    n_errors, n_accepted = outcomes(tmp_path, ".parquet", BINARY_MUTATIONS, 100)
    assert n_errors > 40
    assert n_errors + n_accepted == 100


def test_zip(tmp_path):
    prefix = write_raw(raw_tables(), tmp_path / "raw")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in PARTS:
            archive.write(f"{prefix}-{part}.csv", f"{prefix.name}-{part}.csv")
    good, path, n_errors = buffer.getvalue(), tmp_path / "events.zip", 0
    for trial in range(100):
        rng = np.random.default_rng([SEED, trial])
        path.write_bytes(BINARY_MUTATIONS[trial % 2](good, rng))
        try:
            for event in iter_dataset(path):
                check_invariants(dict(zip(PARTS, event[1:], strict=True)))
        except InputError as error:
            n_errors += 1
            assert str(error).startswith(str(path)), trial
    assert n_errors > 80
    assert sorted(file.name for file in tmp_path.iterdir()) == ["events.zip", "raw"]


@pytest.mark.parametrize("part", ["hits", "particles"])
def test_prepared_shard(tmp_path, part):
    write_raw(raw_tables(), tmp_path / "raw", 1)
    hits = tmp_path / "shard-0000-hits.parquet"
    prepare_shard([tmp_path / "raw"], 0, 1, 1, DataSelection(), hits, tmp_path / "shard-0000-particles.parquet")
    index = tmp_path / "index.csv"
    write_index([hits], index, tmp_path / "manifest.json", {0: "test"}, {}, lambda table: table["pt"] > 0.9)
    (expected,) = read_events(index, "test")
    path = tmp_path / f"shard-0000-{part}.parquet"
    good, n_errors = path.read_bytes(), 0
    for trial in range(60):
        rng = np.random.default_rng([SEED, trial])
        path.write_bytes(BINARY_MUTATIONS[trial % 2](good, rng))
        try:
            (found,) = read_events(index, "test")
        except InputError:
            n_errors += 1
        else:
            assert found[0].hit_id.dtype == np.int64
            assert len(found[1]) == len(found[0]) <= len(expected[0])
    assert n_errors > 40


def test_fuzzing_is_repeatable():
    data = gzip.compress(b"hit_id,x\n1,2\n", mtime=0)
    for mutate in BINARY_MUTATIONS:
        assert mutate(data, np.random.default_rng(1)) == mutate(data, np.random.default_rng(1))
