"""Damaged files between the steps: an error that names the file, or the very same content; never other numbers."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from raw_events import raw_tables
from toy_tasks import write_toy_sample
from toy_trackers import ToyFitter
from toys import toy_event

from trackbench.data.reader import read_event
from trackbench.data.shards import read_events, read_index
from trackbench.errors import InputError
from trackbench.evaluation.run import EvaluationFiles, evaluate_tracks, read_parameters, read_tracks
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.tables import Measured
from trackbench.files import atomic_path, write_text
from trackbench.parquet import content_checksum, read_frame, write_frame
from trackbench.runner import run_tracker
from trackbench.simulation.output import EventTables, write_event

ROOT = Path(__file__).resolve().parents[1]
FLIPS = 30
METRICS = {name: f"{name}.{'csv' if name == 'counts' else 'parquet'}" for name in EvaluationFiles._fields}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder with the files of one tracker on three events, and a simulated event."""
    folder = tmp_path_factory.mktemp("written")
    events = [toy_event(seed=i, event_id=i) for i in (1, 2, 3)]
    paths = [folder / name for name in ("tracks.parquet", "parameters.parquet", "timing.csv", "run.json")]
    run_tracker(ToyFitter(), events, *paths)
    out = EvaluationFiles(**{name: folder / file for name, file in METRICS.items()})
    evaluate_tracks(paths[0], events, TruthSelection(), out, paths[1])
    write_event(EventTables(7, **raw_tables()), folder, "parquet")
    return folder


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def parameters(path):
    return {event: found.to_frame(event) for event, found in read_parameters(path).items()}


def raw_event(path):
    return dict(enumerate(read_event(path.with_name("event000000007"))))


READERS = {
    "tracks.parquet": read_tracks,
    "parameters.parquet": parameters,
    **{file: lambda path: {0: read_frame(path)} for name, file in METRICS.items() if name != "counts"},
    **{f"event000000007-{part}.parquet": raw_event for part in ("hits", "truth", "particles")},
}


def is_same(found, expected):
    """Compare tables by their keys: names, types and values."""
    if found.keys() != expected.keys():
        return False
    return all(found[key].equals(table) and list(found[key]) == list(table) for key, table in expected.items())


def flips(data, number, seed=0):
    """``data`` with one byte changed, ``number`` times anywhere and as often in the footer of a Parquet file."""
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    rng = np.random.default_rng(seed)
    places = [*rng.integers(0, len(data), number), *rng.integers(footer, len(data), number)]
    for at, change in zip(places, rng.integers(1, 256, len(places)), strict=True):
        yield at, data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]


@pytest.mark.parametrize("name", READERS)
def test_a_changed_byte(copy, name):
    path, read = copy / name, READERS[name]
    data, expected, found = path.read_bytes(), read(path), 0
    assert any(len(table) for table in expected.values())
    for at, damaged in flips(data, FLIPS):
        path.write_bytes(damaged)
        try:
            assert is_same(read(path), expected), f"byte {at} of {len(data)} changed the content silently"
        except InputError as error:
            found += 1
            assert name in str(error) and re.search("remove it and run|simulate the event", str(error)), error
    assert found > FLIPS


# Changes that checksums of pages do not see, as footers have none.
@pytest.mark.parametrize("change", ["name", "type", "value", "missing", "order", "one row less"])
def test_the_checksum_sees(tmp_path, change):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, -0.0], "c": [True, False, True], "d": list("xyz")})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    changed = {
        "name": lambda: frame.rename(columns={"a": "A"}),
        "type": lambda: frame.astype({"a": "int32"}),
        "value": lambda: frame.assign(b=[0.5, np.nan, 0.0]),
        "missing": lambda: frame.assign(b=[0.5, 0.0, -0.0]),
        "order": lambda: frame.assign(d=list("xzy")),
        "one row less": lambda: frame.iloc[:2],
    }[change]()
    other = pa.Table.from_pandas(changed, preserve_index=False)
    assert content_checksum(other) != content_checksum(table)
    parts = pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1)])
    assert content_checksum(parts) == content_checksum(table)
    write_frame(frame, tmp_path / "f.parquet")
    metadata = pa_parquet.read_metadata(tmp_path / "f.parquet").metadata
    pa_parquet.write_table(other.replace_schema_metadata(metadata), tmp_path / "f.parquet")
    with pytest.raises(InputError, match=r"f\.parquet: cannot be read \(wrong checksum of the values.*, expected"):
        read_frame(tmp_path / "f.parquet")


def test_files_of_others_are_read(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    frame.to_parquet(tmp_path / "f.parquet")
    pd.testing.assert_frame_equal(read_frame(tmp_path / "f.parquet"), frame)
    write_frame(frame, tmp_path / "g.parquet")
    pd.testing.assert_frame_equal(read_frame(tmp_path / "g.parquet"), frame)
    with pytest.raises(InputError, match=r"h\.parquet: cannot be read .*No such file.*, expected a table\.$"):
        read_frame(tmp_path / "h.parquet", "a table")


def test_all_parquet_files_have_checksums():
    """Only these two modules may write and read them: every other way leaves the checksums out."""
    pattern = re.compile(r"read_parquet|to_parquet|ParquetWriter\(|ParquetFile\(|parquet\.(read|write)_table")
    paths = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    found = {path.name for path in paths if pattern.search(path.read_text(encoding="utf-8"))}
    assert found == {"parquet.py", "shard_file.py"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_toy_sample(tmp_path_factory.mktemp("prepared"), shards=(4, 3), n_val=2)


def test_an_index_cut_short(prepared, tmp_path):
    index = shutil.copytree(prepared.parent, tmp_path / "copy") / "index.csv"
    lines = index.read_text().splitlines(keepends=True)
    for n in range(len(lines)):
        index.write_text("".join(lines[:n]))
        with pytest.raises(InputError, match=r"index\.csv: (cut short or changed|cannot be read)"):
            read_index(index)
    index.write_text("".join(lines[:-2]))
    with pytest.raises(InputError, match=r"n_events 11 as in manifest\.json|n_events 11, .* as in manifest\.json"):
        list(read_events(index, "train"))
    (index.parent / "manifest.json").write_text('{"n_events": 1')
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        read_index(index)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [(",val,", ",vaI,", "split 'vaI', expected one of train, val, test"), ("\n2,", "\n1,", "event 1 twice, expected")],
)
def test_an_index_without_a_manifest(prepared, tmp_path, old, new, message):
    index = tmp_path / "index.csv"
    index.write_text(prepared.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"index\.csv: {message}.*; remove it and prepare again"):
        read_index(index)


def test_an_index_with_a_changed_byte(prepared, tmp_path):
    index = shutil.copytree(prepared.parent, tmp_path / "copy") / "index.csv"
    data, used = index.read_bytes(), ["event_id", "split", "shard", "n_hits"]

    def read():
        names = read_index(index)[used].to_dict("list")
        events = [hits for split in ("train", "val") for hits, _ in read_events(index, split)]
        return names, [(hits.event_id, hits.xyz.tobytes()) for hits in events]

    expected, found = read(), 0
    rng = np.random.default_rng(4)
    for at in rng.integers(0, len(data), 80):
        index.write_bytes(data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :])
        try:
            assert read() == expected, f"byte {at} changed the events silently"
        except InputError:
            found += 1
    assert found > 40


def load(folder):
    frames = [folder / METRICS[name] for name in ("counts", "particles", "candidates")]
    return Measured.load(*frames, folder / "timing.csv", folder / "run.json")


@pytest.mark.parametrize("name", ["counts.csv", "timing.csv", "run.json"])
def test_texts_of_a_tracker_cut_short(copy, name):
    load(copy)
    text = (copy / name).read_text()
    ends = [match.end() for match in re.finditer("\n", text)][:-1]
    for end in [*ends[-40:], *np.random.default_rng(5).integers(0, len(text) - 1, 20)]:
        (copy / name).write_text(text[:end])
        with pytest.raises(InputError, match=rf"{name}: .*(remove it and run again)"):
            load(copy)


def test_an_event_is_missing_without_a_run_file(copy):
    lines = (copy / "counts.csv").read_text().splitlines(keepends=True)
    (copy / "counts.csv").write_text("".join(line for line in lines if not line.startswith("3,")))
    with pytest.raises(InputError, match=r"timing\.csv: 3 events, expected the 2 of .*counts\.csv; remove it"):
        Measured.load(copy / "counts.csv", timing=copy / "timing.csv")
    with pytest.raises(InputError, match=r"counts\.csv: 2 events, expected the 3 of its run file; remove it"):
        Measured.load(copy / "counts.csv", run=copy / "run.json")


def test_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, Path.replace

    def record_sync(handle):
        found = Path(f"/proc/self/fd/{handle}").readlink()
        done.append("folder" if found == tmp_path else f"content {found.read_text()}")
        sync(handle)

    def record_replace(self, target):
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_text(tmp_path / "a.txt", "abc")
    assert done == ["content abc", "name", "folder"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_systems_that_cannot_write_out_folders(tmp_path, monkeypatch, code):
    def refuse(handle):
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.txt", "abc")
    assert (tmp_path / "a.txt").read_text() == "abc"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_found_full_at_the_end(tmp_path, monkeypatch, code):
    def refuse(handle):
        raise OSError(code, os.strerror(code))

    write_text(tmp_path / "a.txt", "before")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=r"a\.txt: cannot be written \(.*make room"):
        write_text(tmp_path / "a.txt", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "before"


def test_errors_of_the_disk_are_not_hidden(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text(json.dumps(1))
    assert not list(tmp_path.iterdir())


def test_categories_are_written_as_their_values(tmp_path):
    frame = pd.DataFrame({"kind": pd.Categorical(["b", "a", "b"]), "n": [1, 2, 3]})
    write_frame(frame, tmp_path / "f.parquet")
    assert read_frame(tmp_path / "f.parquet")["kind"].tolist() == ["b", "a", "b"]
