"""Raw data sources: local paths and the Kaggle download with a fake client."""

import json
import logging
import sys
import zipfile
from types import SimpleNamespace

import pytest
from raw_events import raw_tables, write_raw

from trackbench.data.sources import COMPETITION, kaggle_source, local_source, require_credentials
from trackbench.errors import InputError, MissingExtraError

requests = pytest.importorskip("requests")
kaggle_errors = pytest.importorskip("kagglehub.exceptions")

ARCHIVE = "train_sample.zip"


def make_archive(path):
    prefix = write_raw(raw_tables(), path.parent / "raw", 1000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in raw_tables():
            name = f"{prefix.name}-{part}.csv"
            entry = zipfile.ZipInfo(f"train/{name}", (2018, 5, 1, 0, 0, 0))  # the same bytes at any time
            archive.writestr(entry, prefix.with_name(name).read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def http_error(status):
    response = SimpleNamespace(status_code=status)
    return kaggle_errors.KaggleApiHTTPError(f"{status} Client Error.\n\nsome advice", response=response)


class FakeClient:
    """Stands for ``kagglehub.competition_download``: raises the given errors, then delivers."""

    def __init__(self, tmp_path, *problems):
        self.cache = tmp_path / "cache"
        self.problems = list(problems)
        self.calls = []

    def __call__(self, handle, path, *, force_download):
        self.calls.append((handle, path, force_download))
        if self.problems:
            problem = self.problems.pop(0)
            if isinstance(problem, Exception):
                raise problem
            return str(problem)
        self.cache.mkdir(exist_ok=True)
        return str(make_archive(self.cache / path))


class Clock:
    """Stands for ``time.sleep``: notes the waits."""

    def __init__(self):
        self.waits = []

    def __call__(self, seconds):
        self.waits.append(seconds)


def fetch(tmp_path, client, **options):
    clock = Clock()
    path = kaggle_source(ARCHIVE, tmp_path / "kaggle", client=client, sleep=clock, **options)
    return path, clock.waits


def test_local_source(tmp_path):
    prefix = write_raw(raw_tables(), tmp_path / "events")
    assert local_source(prefix.parent) == prefix.parent
    archive = make_archive(tmp_path / "x.zip")
    assert local_source(str(archive)) == archive
    for path, words in (
        ("", r"data\.local\.path: empty"),
        (tmp_path / "nowhere", "nowhere: no such directory or zip file"),
        (f"{prefix}-hits.csv", "not a readable zip file"),
    ):
        with pytest.raises(InputError, match=words):
            local_source(path)


def test_download_is_recorded_and_not_repeated(tmp_path):
    client = FakeClient(tmp_path)
    path, waits = fetch(tmp_path, client)
    assert path == tmp_path / "kaggle" / ARCHIVE
    assert client.calls == [(COMPETITION, ARCHIVE, False)]
    assert waits == []
    record = json.loads((tmp_path / "kaggle" / f"{ARCHIVE}.json").read_text())
    assert record["size"] == path.stat().st_size
    assert len(record["sha256"]) == 64
    assert fetch(tmp_path, client)[0] == path
    assert len(client.calls) == 1


def test_network_problems_are_tried_again_with_growing_waits(tmp_path, caplog):
    problems = [
        requests.ConnectionError("no route"),
        requests.Timeout("slow"),
        kaggle_errors.DataCorruptionError("MD5 differs"),
        http_error(503),
        http_error(429),
    ]
    client = FakeClient(tmp_path, *problems)
    with caplog.at_level(logging.WARNING):
        _, waits = fetch(tmp_path, client, wait_s=1.0)
    assert waits == [1, 2, 4, 8, 16]
    assert len(client.calls) == 6
    assert all(force is False for _, _, force in client.calls)  # forcing would throw away a partial download
    assert "attempt 1 failed (no route), trying again in 1 s" in caplog.text


def test_gives_up_with_one_sentence(tmp_path):
    client = FakeClient(tmp_path, *[requests.ConnectionError("no\nroute")] * 3)
    with pytest.raises(InputError) as error:
        fetch(tmp_path, client, retries=2)
    assert str(error.value) == (
        "Kaggle file train_sample.zip: download failed 3 times, last: no route; "
        "check the network and run again, it resumes."
    )
    assert not (tmp_path / "kaggle").exists()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (kaggle_errors.UnauthenticatedError(), "no Kaggle credentials found"),
        (http_error(401), "Kaggle refused access (status 401)"),
        (http_error(403), "Kaggle refused access (status 403)"),
        (ValueError("Invalid Kaggle credentials file at kaggle.json"), "bad Kaggle credentials (Invalid Kaggle"),
    ],
)
def test_without_access_the_message_says_what_to_do(tmp_path, problem, words):
    client = FakeClient(tmp_path, problem)
    with pytest.raises(InputError) as error:
        fetch(tmp_path, client)
    message = str(error.value)
    assert words in message
    for step in (f"competitions/{COMPETITION}/rules", "API token", "~/.kaggle/access_token", "KAGGLE_API_TOKEN"):
        assert step in message
    assert "~/.kaggle/kaggle.json" in message
    assert "\n" not in message
    assert len(client.calls) == 1  # trying again would not help


def test_wrong_file_name(tmp_path):
    with pytest.raises(InputError, match=r"Kaggle has no such file, expected .* train_sample\.zip"):
        fetch(tmp_path, FakeClient(tmp_path, http_error(404)))
    with pytest.raises(InputError, match=r"Kaggle answered 400 Client Error\. some advice"):
        fetch(tmp_path, FakeClient(tmp_path, http_error(400)))


def test_changed_archive_is_downloaded_again(tmp_path, caplog):
    client = FakeClient(tmp_path)
    path, _ = fetch(tmp_path, client)
    good = path.read_bytes()
    path.unlink()  # a link to the cache: write a new file
    path.write_bytes(good[:-10] + b"0123456789")
    fetch(tmp_path, client)
    assert client.calls[1] == (COMPETITION, ARCHIVE, True)
    assert path.read_bytes() == good
    assert "does not fit its record" in caplog.text
    path.with_name(f"{ARCHIVE}.json").write_text("{}")
    fetch(tmp_path, client)
    assert len(client.calls) == 3


def test_archive_put_there_by_hand_needs_no_client(tmp_path):
    (tmp_path / "kaggle").mkdir()
    path = make_archive(tmp_path / "kaggle" / ARCHIVE)
    client = FakeClient(tmp_path)
    assert fetch(tmp_path, client)[0] == path
    assert client.calls == []
    assert path.with_name(f"{ARCHIVE}.json").is_file()


def test_damaged_download_is_removed_and_reported(tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK half of a zip")
    with pytest.raises(InputError, match=r"the download is damaged .*not a readable zip file.*run again"):
        fetch(tmp_path, FakeClient(tmp_path, broken))
    assert not broken.exists()
    assert not (tmp_path / "kaggle").exists()


def test_real_client_without_credentials(tmp_path, monkeypatch):
    """kagglehub itself, offline: no credentials are found before anything is sent."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="no Kaggle credentials found"):
        kaggle_source(ARCHIVE, tmp_path / "kaggle", retries=0)


def test_credentials_are_asked_for_before_anything_runs(tmp_path, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    there = tmp_path / "train_1.zip"
    there.touch()
    require_credentials([there])  # nothing to download
    with pytest.raises(InputError, match=r"Kaggle file train_2\.zip: no Kaggle credentials found; \(1\)"):
        require_credentials([there, tmp_path / "train_2.zip"])
    (tmp_path / "kaggle.json").write_text("{}")
    with pytest.raises(InputError, match="bad Kaggle credentials"):
        require_credentials([tmp_path / "train_2.zip"])
    (tmp_path / "kaggle.json").write_text('{"username": "a", "key": "b"}')
    require_credentials([tmp_path / "train_2.zip"])


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'trackbench\[kaggle\]'"):
        kaggle_source(ARCHIVE, tmp_path)
