"""Reading events: same tables as trackml-library's loader, from every kind of file."""

import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from raw_events import DATA, SAMPLE, raw_tables, write_raw

from trackbench.data import iter_dataset, list_events, read_event
from trackbench.data.fastcsv import parse_numbers
from trackbench.data.schema import COLUMNS, PARTS
from trackbench.data.tables import parse_csv
from trackbench.errors import ConfigError, InputError


def library_read(path, part):
    """What trackml-library's ``load_event`` does (trackml/dataset.py): read_csv with its types."""
    return pd.read_csv(path, header=0, index_col=False, dtype=COLUMNS[part])


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_reads_what_was_written(tmp_path, suffix):
    tables = raw_tables()
    prefix = write_raw(tables, tmp_path, suffix=suffix)
    for part, frame in zip(PARTS, read_event(prefix), strict=True):
        pd.testing.assert_frame_equal(frame, tables[part], check_exact=True)


def test_columns_and_types_are_those_of_the_library(tmp_path):
    truth = read_event(write_raw(raw_tables(), tmp_path), ["truth"])[0]
    assert list(truth.columns) == ["hit_id", "particle_id", "tx", "ty", "tz", "tpx", "tpy", "tpz", "weight"]
    assert [str(kind) for kind in truth.dtypes] == ["int32", "int64"] + ["float32"] * 7


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared TrackML sample")
@pytest.mark.parametrize("name", ["trackml-sample/event000000001", "simulated-mu200/event000000002"])
def test_same_bits_as_the_library_on_full_events(name):
    for part, frame in zip(PARTS, read_event(DATA / name), strict=True):
        expected = library_read(f"{DATA / name}-{part}.csv.gz", part)
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared TrackML sample")
def test_sample_event_has_its_known_size():
    hits, cells, particles, truth = read_event(SAMPLE)
    assert (len(hits), len(cells), len(particles), len(truth)) == (5527, 18564, 548, 5527)


def test_parts_come_in_the_order_asked_for(tmp_path):
    prefix = write_raw(raw_tables(), tmp_path)
    truth, hits = read_event(str(prefix), ["truth", "hits"])
    assert "weight" in truth
    assert "volume_id" in hits
    assert read_event(prefix, []) == ()


def test_particle_id_never_passes_through_float(tmp_path):
    tables = raw_tables()
    odd = (1 << 62) + 1  # a float64 would make it even
    old = tables["particles"]["particle_id"].iloc[0]
    for part in ("particles", "truth"):
        tables[part]["particle_id"] = tables[part]["particle_id"].replace(old, odd)
    for suffix in (".csv", ".parquet"):
        particles, truth = read_event(write_raw(tables, tmp_path / suffix, suffix=suffix), ["particles", "truth"])
        assert odd in particles["particle_id"].tolist()
        assert odd in truth["particle_id"].tolist()


def test_column_order_and_missing_particle_type(tmp_path):
    tables = raw_tables()
    expected = tables["particles"].drop(columns="particle_type")
    tables["particles"] = expected[expected.columns[::-1]]
    (particles,) = read_event(write_raw(tables, tmp_path), ["particles"])
    pd.testing.assert_frame_equal(particles, expected, check_exact=True)


@pytest.mark.parametrize(
    "text",
    [
        b"hit_id,ch0,ch1,value\r\n1,2,3,0.5\r\n4,5,6,1e-3\r\n",
        b"hit_id,ch0,ch1,value\n1,2,3,0.5\n4,5,6,1e-3",
        b'"hit_id","ch0","ch1","value"\n1,2,3,0.5\n"4",5,6,0.001\n\n',
        b"\xef\xbb\xbfhit_id,ch0,ch1,value\n1,2,3,.5\n4,5,6,0.0010000000000000000000001\n",
    ],
)
def test_csv_dialects(text):
    frame = parse_csv(text, "cells", "x-cells.csv")
    assert frame["hit_id"].tolist() == [1, 4]
    assert frame["value"].tolist() == [0.5, float(np.float32(0.001))]


def test_event_without_hits(tmp_path):
    tables = raw_tables()
    empty = {part: table[:0] for part, table in tables.items()} | {"particles": tables["particles"]}
    for suffix in (".csv", ".csv.gz", ".parquet"):
        hits, truth, particles = read_event(
            write_raw(empty, tmp_path / suffix, suffix=suffix), ["hits", "truth", "particles"]
        )
        assert len(hits) == len(truth) == 0
        assert hits["hit_id"].dtype == np.int32
        assert len(particles) == len(tables["particles"])


def dataset(tmp_path):
    """Directory with events 7, 8, 1000 in three formats and files that only look like events."""
    folder = tmp_path / "set"
    for event_id, suffix in ((1000, ".csv"), (8, ".parquet"), (7, ".csv.gz")):
        write_raw(raw_tables(seed=event_id), folder, event_id, suffix)
    for name in ("event000000009-hits.csv.bak", "event9-hits.csv", "old-event000000010-hits.csv", "detectors.csv"):
        (folder / name).write_text("nonsense")
    return folder


def test_iter_dataset_sorts_skips_and_stops(tmp_path):
    folder = dataset(tmp_path)
    assert list_events(folder) == [(n, str(folder / f"event{n:09d}")) for n in (7, 8, 1000)]
    events = list(iter_dataset(folder, parts=["truth", "hits"]))
    assert [event[0] for event in events] == [7, 8, 1000]
    pd.testing.assert_frame_equal(events[1][2], raw_tables(seed=8)["hits"], check_exact=True)
    assert [event[0] for event in iter_dataset(folder, skip=1, nevents=1)] == [8]
    assert [event[0] for event in iter_dataset(folder, skip=1)] == [8, 1000]
    assert list(iter_dataset(folder, nevents=0)) == []


def test_zip_with_and_without_folder(tmp_path):
    folder = dataset(tmp_path)
    archive = tmp_path / "train.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in folder.iterdir():
            out.write(path, f"train/{path.name}" if "1000" in path.name else path.name)
    (tmp_path / "before").write_text("")
    events = list(iter_dataset(archive, parts=["hits"]))
    assert [event[0] for event in events] == [7, 8, 1000]
    pd.testing.assert_frame_equal(events[2][1], raw_tables(seed=1000)["hits"], check_exact=True)
    prefixes = dict(list_events(archive))
    assert prefixes[1000] == str(archive / "train/event000001000")
    (hits,) = read_event(prefixes[1000], ["hits"])
    pd.testing.assert_frame_equal(hits, events[2][1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "set", "train.zip"]  # nothing extracted


def test_shard_folders_of_the_simulation_are_one_dataset(tmp_path):
    for shard, event_id in (("shard-0001", 3), ("shard-0000", 1)):
        write_raw(raw_tables(), tmp_path / shard, event_id, ".parquet")
    assert [event_id for event_id, _ in list_events(tmp_path)] == [1, 3]


def test_prefix_is_matched_exactly(tmp_path):
    """trackml-library issue 1: a prefix must not take files of another event or format."""
    prefix = write_raw(raw_tables(), tmp_path)
    with pytest.raises(InputError, match=r"no hits file, expected event00000100-hits\.parquet or"):
        read_event(str(prefix)[:-1], ["hits"])
    (tmp_path / "event000001000-hits.csv.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"both event000001000-hits\.csv and event000001000-hits\.csv\.gz"):
        read_event(prefix, ["hits"])


def test_parquet_is_taken_before_csv(tmp_path):
    prefix = write_raw(raw_tables(), tmp_path, suffix=".parquet")
    (tmp_path / "event000001000-hits.csv").write_text("nonsense")
    assert len(read_event(prefix, ["hits"])[0]) == len(raw_tables()["hits"])


def test_unknown_part_is_named(tmp_path):
    with pytest.raises(ConfigError, match="unknown part 'hit', expected hits, cells, particles, truth"):
        read_event(write_raw(raw_tables(), tmp_path), ["hit"])


def test_importing_the_package_is_light():
    code = "import sys, trackbench.data; sys.exit('pyarrow.csv' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the compiled parser: equal to the general one (pyarrow) or not used


def compiled(text, part="cells"):
    """Rows of a table by the compiled parser, or None."""
    start = text.index(b"\n") + 1
    return parse_numbers(text, start, list(COLUMNS[part].values()))


@pytest.mark.parametrize("part", PARTS)
def test_compiled_parser_gives_the_same_bits(part):
    table = pd.concat([raw_tables(seed=seed)[part] for seed in range(5)])
    text = table.to_csv(index=False, lineterminator="\n").encode()
    assert len(text) < 1 << 18  # so that parse_csv takes the general parser
    general = parse_csv(text, part, "x.csv")
    for name, values in zip(general, compiled(text, part), strict=True):
        assert values.dtype == general[name].dtype
        np.testing.assert_array_equal(values, general[name])


def test_compiled_parser_at_the_limits():
    text = b"hit_id,particle_id,tx,ty,tz,tpx,tpy,tpz,weight\n"
    row = b"-2147483647,9223372036854775807,-0.0,9007199254740992,1e22,1e-22,.5,5.,-8.0000002e-06\r\n"
    values = compiled(text + row, "truth")
    expected = [-2147483647, 9223372036854775807, -0.0, 9007199254740992, 1e22, 1e-22, 0.5, 5.0, -8.0000002e-06]
    assert [v[0] for v in values] == [np.dtype(v.dtype).type(e) for v, e in zip(values, expected, strict=True)]
    assert np.signbit(values[2][0])
    assert [len(v) for v in compiled(text, "truth")] == [0] * 9


@pytest.mark.parametrize(
    "row",
    [
        "1,2,3",  # short
        "1,2,3,4,5",  # long
        "1,2,3,0.5",  # no newline at the end
        "1,2,3,nan\n",
        "1,2,3,\n",
        "1,2,,4\n",
        " 1,2,3,4\n",
        '"1",2,3,4\n',
        "1.0,2,3,4\n",
        "1e2,2,3,4\n",
        "2147483648,2,3,4\n",
        "99999999999999999999,2,3,4\n",
        "1,2,3,0.12345678901234567890\n",
        "1,2,3,9007199254740993\n",
        "1,2,3,1e23\n",
        "1,2,3,1E2\\n",
        "1,2,3,1e\n",
        "1,2,3,1e-\n",
        "1,2,3,-\n",
        "1,2,3,.\n",
        "1,2,3,+4\n",
        "1,2,3,--4\n",
        "1,2,3,1.2.3\n",
        "1\r,2,3,4\n",
        "\n1,2,3,4\n",
    ],
)
def test_compiled_parser_gives_up(row):
    assert compiled(b"hit_id,ch0,ch1,value\n" + row.encode()) is None


def test_compiled_parser_never_disagrees():
    """Random changes of a valid table: where the compiled parser answers, the general one agrees."""
    good = raw_tables()["truth"].to_csv(index=False, lineterminator="\n").encode()
    start, n_answers = good.index(b"\n") + 1, 0
    for trial in range(300):
        rng = np.random.default_rng([20, trial])
        text = bytearray(good)
        for position in rng.integers(start, len(text), rng.integers(1, 4)):
            text[position] = rng.choice(list(b"0123456789.,-+eE\r\n "))
        values = compiled(bytes(text), "truth")
        if values is not None:
            n_answers += 1
            general = parse_csv(bytes(text), "truth", "x.csv")
            for name, column in zip(general, values, strict=True):
                np.testing.assert_array_equal(column, general[name])
    assert n_answers > 50


def test_large_tables_take_the_compiled_parser_and_small_errors_stay(tmp_path, monkeypatch):
    table = pd.concat([raw_tables(seed=seed, n_tracks=60)["hits"] for seed in range(24)], ignore_index=True)
    table["hit_id"] = np.arange(len(table), dtype=np.int32)
    text = table.to_csv(index=False, lineterminator="\n").encode()
    assert len(text) > 1 << 18
    monkeypatch.setattr("trackbench.data.tables._arrow_csv", None)  # must not be needed
    pd.testing.assert_frame_equal(parse_csv(text, "hits", "x.csv"), table, check_exact=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"x\.csv: value 'abc' in column module_id, row "):
        parse_csv(text[: text.rindex(b",") + 1] + b"abc\n", "hits", "x.csv")
    monkeypatch.setitem(sys.modules, "trackbench.data.fastcsv", None)  # numba not installed
    pd.testing.assert_frame_equal(parse_csv(text, "hits", "x.csv"), table, check_exact=True)
