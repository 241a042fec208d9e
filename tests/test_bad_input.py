"""Every known kind of wrong input: one clear error that names file, problem and value; no output left."""

import gzip
import json
import stat
import zipfile

import numpy as np
import pandas as pd
import pytest
from raw_events import raw_tables, write_raw

from trackbench.data import iter_dataset, list_events, read_event
from trackbench.data.checks import check_charges
from trackbench.data.prepare import DataSelection
from trackbench.data.shards import prepare_shard, read_events, write_index
from trackbench.errors import ConfigError, InputError

HIT = 7  # a hit_id that the tests spoil; tables are in hit_id order
ROW = HIT - 1


def spoil(part, column, value, row=ROW):
    """Return a change of the tables: one value replaced."""

    def change(tables):
        tables[part][column] = tables[part][column].astype(object)
        tables[part].loc[row, column] = value

    return change


def drop_column(part, name):
    return lambda tables: tables.update({part: tables[part].drop(columns=name)})


def add_column(part, name):
    return lambda tables: tables.update({part: tables[part].assign(**{name: 1})})


def drop_row(part, row=ROW):
    return lambda tables: tables.update({part: tables[part].drop(index=row)})


def add_hit_to(part, hit_id):
    def change(tables):
        extra = tables[part].iloc[[ROW]].assign(hit_id=hit_id)
        tables[part] = pd.concat([tables[part], extra], ignore_index=True)

    return change


# name -> (change of valid tables, file the message must name, parts of the message)
TABLE_CASES = {
    "missing column": (
        drop_column("hits", "layer_id"),
        "hits",
        ["no column layer_id", "expected columns hit_id, x, y"],
    ),
    "extra column": (add_column("truth", "colour"), "truth", ["unknown column 'colour'", "remove it"]),
    "text for a float": (spoil("hits", "x", "abc"), "hits", ["value 'abc' in column x, row 7", "a number"]),
    "nothing for a float": (spoil("hits", "x", ""), "hits", ["value '' in column x, row 7"]),
    "nothing for an integer": (spoil("hits", "layer_id", ""), "hits", ["value '' in column layer_id, row 7"]),
    "float for an integer": (spoil("hits", "module_id", 1.5), "hits", ["value '1.5' in column module_id, row 7"]),
    "float particle_id": (spoil("truth", "particle_id", "4.5e15"), "truth", ["value '4.5e15' in column particle_id"]),
    "too large an integer": (spoil("cells", "ch0", 1 << 31), "cells", ["value '2147483648' in column ch0", "int32"]),
    "too large a particle_id": (spoil("truth", "particle_id", 1 << 63), "truth", ["'9223372036854775808'", "int64"]),
    "duplicate hit_id": (add_hit_to("hits", HIT), "hits", ["1 duplicate hit_id (first 7)", "expected unique"]),
    "duplicate truth": (add_hit_to("truth", HIT), "truth", ["1 duplicate hit_id (first 7)"]),
    "duplicate particle": (
        spoil("particles", "particle_id", (1 << 52) | (1 << 36), 1),
        "particles",
        ["1 duplicate particle_id (first 4503668346847232)"],
    ),
    "NaN position": (spoil("hits", "y", "nan"), "hits", ["1 non-finite values in column y", "hit_id 7 has nan"]),
    "infinite position": (spoil("hits", "z", "-inf"), "hits", ["column z", "hit_id 7 has -inf"]),
    "position beyond float32": (spoil("hits", "z", "1e40"), "hits", ["column z", "hit_id 7 has inf"]),
    "NaN momentum": (spoil("particles", "px", "nan", 1), "particles", ["column px", "has nan"]),
    "NaN weight": (spoil("truth", "weight", "nan"), "truth", ["column weight", "hit_id 7 has nan"]),
    "NaN charge": (spoil("cells", "value", "nan"), "cells", ["column value", "hit_id 7 has nan"]),
    "truth for no hit": (add_hit_to("truth", 999), "truth", ["truth for 1 hits that do not exist (first hit_id 999)"]),
    "hit without truth": (drop_row("truth"), "truth", ["1 hits without truth (first hit_id 7)"]),
    "cells for no hit": (add_hit_to("cells", 999), "cells", ["cells of 1 hits that do not exist (first hit_id 999)"]),
    "unknown module": (
        spoil("hits", "module_id", 5000),
        "hits",
        ["1 hits on an unknown module (first: hit_id 7 on volume", "module 5000)", "TrackML detector"],
    ),
    "unknown volume": (spoil("hits", "volume_id", 11), "hits", ["hit_id 7 on volume 11"]),
    "negative layer": (spoil("hits", "layer_id", -2), "hits", ["layer -2"]),
    "unknown particle": (spoil("truth", "particle_id", 12345), "truth", ["hit_id 7, particle_id 12345", "particles"]),
    "negative particle_id": (spoil("truth", "particle_id", -1), "truth", ["1 negative particle_id (first: hit_id 7"]),
    "noise among particles": (spoil("particles", "particle_id", 0, 0), "particles", ["particle_id 0", "noise"]),
    "negative weight": (spoil("truth", "weight", -0.5), "truth", ["1 negative weight (first: hit_id 7 has -0.5)"]),
    "particle at rest": (
        lambda tables: tables.update(particles=tables["particles"].assign(px=0.0, py=0.0)),
        "particles",
        ["has pT 0"],
    ),
    "corrupt charge": (
        spoil("cells", "value", 7e5),
        "cells",
        ["1 corrupt cell values (first: hit_id 7 has 700000)", "expected 0 to 10", "set on_bad_charge to 'clip'"],
    ),
    "negative charge": (spoil("cells", "value", -1.0), "cells", ["hit_id 7 has -1"]),
}


@pytest.mark.parametrize("case", TABLE_CASES)
def test_wrong_table(tmp_path, case):
    change, part, words = TABLE_CASES[case]
    tables = raw_tables()
    assert tables["hits"]["hit_id"].iloc[ROW] == HIT
    change(tables)
    prefix = write_raw(tables, tmp_path)
    with pytest.raises(InputError) as error:
        read_event(prefix)
    message = str(error.value)
    assert message.startswith(f"{prefix}-{part}.csv: ")
    for word in words:
        assert word in message
    assert message.endswith(".")
    assert "\n" not in message
    if part != "cells":  # prepare does not read cells
        assert_prepare_fails(tmp_path, message)


def assert_prepare_fails(raw, message):
    """Preparing gives the same message and leaves nothing behind."""
    out = raw / "out"
    with pytest.raises(InputError) as error:
        prepare_shard(
            [raw], 0, 1, 1, DataSelection(), out / "shard-0000-hits.parquet", out / "shard-0000-particles.parquet"
        )
    assert str(error.value) == message
    assert list(out.iterdir()) == []


def rewrite(change):
    """Return a change of the bytes of the hits file."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


# name -> (suffix of the files, change of the hits file, parts of the message)
FILE_CASES = {
    "empty csv": (".csv", rewrite(lambda data: b""), ["the file is empty"]),
    "empty gzip": (".csv.gz", rewrite(lambda data: b""), ["the file is empty"]),
    "gzip of nothing": (".csv.gz", rewrite(lambda data: gzip.compress(b"")), ["no column hit_id"]),
    "truncated gzip": (".csv.gz", rewrite(lambda data: data[: len(data) // 2]), ["truncated gzip file"]),
    "gzip without its end": (".csv.gz", rewrite(lambda data: data[:-4]), ["truncated gzip file"]),
    "damaged gzip": (".csv.gz", rewrite(lambda data: data[:-8] + b"12345678"), ["damaged gzip file"]),
    "no gzip at all": (".csv.gz", rewrite(lambda data: b"hit_id,x\n"), ["damaged gzip file"]),
    "gzip bomb": (".csv.gz", rewrite(lambda data: gzip.compress(b"0" * 30_000_000)), ["unpacks to more than"]),
    "text header": (".csv", rewrite(lambda data: b"<html>" + data), ["no column hit_id"]),
    "binary header": (".csv", rewrite(lambda data: b"\xff\xfe\x00" + data), ["unreadable header"]),
    "short line": (".csv", rewrite(lambda data: data + b"1,2,3\n"), ["Expected 7 columns, got 3"]),
    "long line": (".csv", rewrite(lambda data: data + b"1,2,3,4,5,6,7,8\n"), ["Expected 7 columns, got 8"]),
    "column twice": (
        ".csv",
        rewrite(lambda data: data.replace(b"hit_id,", b"hit_id,x,", 1)),
        ["column x appears twice"],
    ),
    "truncated Parquet": (".parquet", rewrite(lambda data: data[: len(data) // 2]), ["damaged Parquet file"]),
    "damaged Parquet": (".parquet", rewrite(lambda data: data[:-8] + b"xxxxPAR1"), ["damaged Parquet file"]),
}


@pytest.mark.parametrize("case", FILE_CASES)
def test_wrong_file(tmp_path, case):
    suffix, change, words = FILE_CASES[case]
    prefix = write_raw(raw_tables(), tmp_path, suffix=suffix)
    path = tmp_path / f"{prefix.name}-hits{suffix}"
    change(path)
    with pytest.raises(InputError) as error:
        read_event(prefix)
    assert str(error.value).startswith(f"{path}: ")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert_prepare_fails(tmp_path, str(error.value))


def test_parquet_columns_of_the_wrong_type(tmp_path):
    tables = raw_tables()
    tables["truth"]["particle_id"] = tables["truth"]["particle_id"].astype(float)
    with pytest.raises(InputError, match="column particle_id has type double, expected int64"):
        read_event(write_raw(tables, tmp_path, suffix=".parquet"), ["truth"])
    tables["truth"]["particle_id"] = pd.array([None] + [1] * (len(tables["truth"]) - 1), dtype="Int64")
    with pytest.raises(InputError, match="1 missing values in column particle_id"):
        read_event(write_raw(tables, tmp_path, suffix=".parquet"), ["truth"])
    tables["hits"]["hit_id"] = tables["hits"]["hit_id"].astype("int64") + (1 << 40)
    with pytest.raises(InputError, match="value 1099511627777 in column hit_id, expected an int32 number"):
        read_event(write_raw(tables, tmp_path, suffix=".parquet"), ["hits"])


def test_missing_part_and_missing_place(tmp_path):
    tables = raw_tables()
    del tables["truth"]
    prefix = write_raw(tables, tmp_path)
    with pytest.raises(InputError, match=r"no truth file, expected event000001000-truth\.parquet or"):
        read_event(prefix)
    with pytest.raises(InputError, match="no directory"):
        read_event(tmp_path / "nowhere" / "event000000001")
    with pytest.raises(InputError, match="no such directory or zip file"):
        list_events(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no events, expected files such as event000001000-hits\.csv"):
        list(iter_dataset(tmp_path / "empty"))


def test_clip_repairs_corrupt_charges_and_says_so(tmp_path, caplog):
    tables = raw_tables()
    tables["cells"].loc[[2, ROW], "value"] = [-0.5, 7e5]
    prefix = write_raw(tables, tmp_path)
    (cells,) = read_event(prefix, ["cells"], on_bad_charge="clip")
    expected = tables["cells"]["value"].clip(0, 1)
    np.testing.assert_array_equal(cells["value"], expected)
    assert cells["value"].dtype == np.float32
    assert "clipped 2 cell values to [0, 1] (first: hit_id 3 has -0.5)" in caplog.text
    with pytest.raises(ConfigError, match="on_bad_charge: value 'ignore', expected error or clip or repair"):
        read_event(prefix, ["cells"], on_bad_charge="ignore")


def test_charges_of_grazing_simulated_tracks_pass():
    cells = raw_tables()["cells"]
    cells.loc[0, "value"] = 2.05137  # the largest of the shared simulated event
    assert check_charges(cells, "x") is cells


# name -> (function that adds the member, part of the message)
def plain(name):
    return lambda archive: archive.writestr(name, b"hit_id,x\n")


def link(archive):
    info = zipfile.ZipInfo("event000000001-hits.csv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


ZIP_CASES = {
    "absolute name": (plain("/tmp/event000000001-hits.csv"), "unsafe name '/tmp/event000000001-hits.csv'"),
    "parent folder": (plain("../event000000001-hits.csv"), "unsafe name '../event000000001-hits.csv'"),
    "hidden parent folder": (plain("a/../../event000000001-hits.csv"), "unsafe name 'a/../../"),
    "backslashes": (plain("..\\event000000001-hits.csv"), "unsafe name '..\\\\event000000001-hits.csv'"),
    "drive letter": (plain("C:\\event000000001-hits.csv"), "unsafe name 'C:"),
    "symbolic link": (link, "event000000001-hits.csv is a symbolic link"),
    "bomb": (lambda archive: archive.writestr("event000000001-hits.csv", b"0" * 5_000_000), "unpacks to 5000000 bytes"),
}


@pytest.mark.parametrize("case", ZIP_CASES)
def test_unsafe_zip(tmp_path, case):
    add, words = ZIP_CASES[case]
    path = tmp_path / "events.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        write_raw(raw_tables(), tmp_path / "good")
        for file in (tmp_path / "good").iterdir():
            archive.write(file, file.name)
        add(archive)
    for use in (list_events, lambda path: list(iter_dataset(path))):
        with pytest.raises(InputError) as error:
            use(path)
        assert str(error.value).startswith(f"{path}: ")
        assert words in str(error.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["events.zip", "good"]


def good_zip(tmp_path, events=(1,)):
    path = tmp_path / "events.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for event_id in events:
            prefix = write_raw(raw_tables(), tmp_path / "raw", event_id)
            for part in raw_tables():
                archive.write(f"{prefix}-{part}.csv", f"{prefix.name}-{part}.csv")
    return path


def test_damaged_zip(tmp_path):
    path = good_zip(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a readable zip file"):
        list_events(path)
    position = data.index(b"hit_id,x,y,z") + 300
    path.write_bytes(data[:position] + b"#" + data[position + 1 :])
    with pytest.raises(InputError, match=r"event000000001-hits\.csv: damaged \(Bad CRC-32"):
        list(iter_dataset(path))
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a readable zip file"):
        list_events(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_with_a_name_or_event_twice(tmp_path):
    path = good_zip(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/event000000001-hits.csv", "hit_id\n")
    with pytest.raises(InputError, match=r"event 1 twice \(event000000001, other/event000000001\)"):
        list_events(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("event000000001-hits.csv", "hit_id\n")
    with pytest.raises(InputError, match="the same name twice"):
        list_events(path)


def test_source_with_too_few_events(tmp_path):
    path = good_zip(tmp_path, (1, 2))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"events\.zip: 2 events, expected the 3 of data\.events"):
        prepare_shard([path], 0, 2, 3, DataSelection(), out / "shard-0-hits.parquet", out / "shard-0-particles.parquet")
    assert list(out.iterdir()) == []


def prepared(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "prepared"
    write_raw(raw_tables(), raw, 1)
    hits = out / "shard-0000-hits.parquet"
    prepare_shard([raw], 0, 1, 1, DataSelection(), hits, out / "shard-0000-particles.parquet")
    return hits, out


def index_of(hits, out):
    write_index([hits], out / "index.csv", out / "manifest.json", {0: "test"}, {}, lambda table: table["pt"] > 0.9)


@pytest.mark.parametrize("part", ["hits", "particles"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_damaged_shard(tmp_path, part, damage):
    hits, out = prepared(tmp_path)
    index_of(hits, out)
    path = out / f"shard-0000-{part}.parquet"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[200] ^= 0xFF  # inside a data page: the page checksum finds it
    path.unlink()
    if damage != "missing":
        path.write_bytes({"truncated": data[:-50], "flipped": data, "empty": b""}[damage])
    with pytest.raises(InputError) as error:
        list(read_events(out / "index.csv", "test"))
    assert f"{path}: missing or damaged shard" in str(error.value)
    assert "prepare again" in str(error.value)


def test_damaged_shard_writes_no_index(tmp_path):
    hits, out = prepared(tmp_path)
    particles = out / "shard-0000-particles.parquet"
    particles.write_bytes(particles.read_bytes()[:100])
    with pytest.raises(InputError, match=r"shard-0000-particles\.parquet: missing or damaged"):
        index_of(hits, out)
    assert sorted(path.name for path in out.iterdir()) == [hits.name, particles.name]


def test_index_and_shards_that_do_not_fit(tmp_path):
    hits, out = prepared(tmp_path)
    index_of(hits, out)
    index = out / "index.csv"
    good = index.read_text()
    with pytest.raises(ConfigError, match="split: value 'training', expected one of train, val, test"):
        next(read_events(index, "training"))
    index.write_text(good.replace("\n1,", "\n2,"))
    with pytest.raises(InputError, match=r"shard-0000-hits\.parquet: no event 2"):
        list(read_events(index, "test"))
    index.write_text(good.replace("n_selected", "selected"))
    with pytest.raises(InputError, match=r"index\.csv: columns event_id, split.*expected columns"):
        list(read_events(index, "test"))
    index.write_text(good.replace("\n1,", "\nx,"))
    with pytest.raises(InputError, match=r"index\.csv: cannot be read"):
        list(read_events(index, "test"))
    with pytest.raises(InputError, match="splits for 2 events, expected the 1 events of the shards"):
        write_index([hits], index, out / "m.json", {0: "test", 1: "test"}, {}, len)
    with pytest.raises(InputError, match="no shards, expected at least one"):
        write_index([], index, out / "m.json", {}, {}, len)
    with pytest.raises(InputError, match="event 1 is in 2 shards"):
        write_index([hits, hits], index, out / "m.json", {0: "test", 1: "test"}, {}, len)


def test_shards_of_different_selections(tmp_path):
    first, out = prepared(tmp_path)
    write_raw(raw_tables(), tmp_path / "raw", 2)
    second = out / "shard-0001-hits.parquet"
    full = DataSelection(detector="full")
    prepare_shard([tmp_path / "raw"], 1, 1, 2, full, second, out / "shard-0001-particles.parquet")
    with pytest.raises(InputError, match=r"its shards have different selections.*full.*pixel"):
        write_index([first, second], out / "index.csv", out / "m.json", {0: "val", 1: "test"}, {}, len)


def test_unreadable_raw_manifest(tmp_path):
    write_raw(raw_tables(), tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        prepare_shard(
            [tmp_path], 0, 1, 1, DataSelection(), out / "shard-0-hits.parquet", out / "shard-0-particles.parquet"
        )
    assert list(out.iterdir()) == []
