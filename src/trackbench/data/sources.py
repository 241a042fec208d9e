"""Where raw events come from: a local directory or zip, or the Kaggle competition.

The download goes through kagglehub (optional extra ``kaggle``). Version 1.0.2 resumes a broken
download from its cache and compares the MD5 sum that the server sends, but it neither tries again nor
remembers what it got; both are added here.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from trackbench.data.archive import find_events, open_files
from trackbench.errors import InputError, describe, missing_extra
from trackbench.files import atomic_path, write_json

log = logging.getLogger(__name__)

COMPETITION = "trackml-particle-identification"
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
_NO_ACCESS = (401, 403)
_NO_FILE = 404
_TRY_AGAIN = (408, 425, 429)
_CHUNK = 1 << 20

LOG_IN = (
    f"(1) log in to Kaggle and accept the rules at {RULES}, (2) create an API token at "
    "https://www.kaggle.com/settings, (3) save it as ~/.kaggle/access_token or set KAGGLE_API_TOKEN to it (a "
    "kaggle.json belongs at ~/.kaggle/kaggle.json), (4) run the same command again"
)

# client(competition, path=file, force_download=bool) -> path of the downloaded file
Client = Callable[..., str]


def local_source(path: str | Path) -> Path:
    """Check that ``path`` is a directory or zip file with at least one event, and return it.

    Raises InputError otherwise.
    """
    if not str(path):
        raise InputError(describe("data.local.path", "empty", "a directory or zip file of events"))
    with open_files(path) as files:
        find_events(files)
    return Path(path)


def kaggle_source(
    archive: str,
    directory: str | Path,
    *,
    client: Client | None = None,
    retries: int = 5,
    wait_s: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download an archive of the TrackML competition unless it is there already.

    archive: file of the competition, such as ``train_sample.zip`` or ``train_1.zip``
    directory: where it is kept, with ``<archive>.json`` beside it (size and SHA-256). An archive put
        there by hand is taken as it is; one that no longer fits its record is downloaded again.
    client: ``kagglehub.competition_download`` or a replacement
    retries: further attempts after a network problem, each resuming; wait_s: wait before the first
        [s], doubled each time; sleep: called with that time
    Returns the path of the archive. Raises InputError if access, file or network are missing or the
    archive is damaged, and MissingExtraError without kagglehub.
    """
    target = Path(directory) / archive
    record = target.with_name(target.name + ".json")
    is_changed = False
    if target.is_file():
        is_changed = _is_changed(target, record)
        if not is_changed:
            _keep_record(target, record)
            return local_source(target)
        log.warning("%s does not fit its record %s: downloading again", target, record.name)
    downloaded = _download(archive, client or _kagglehub(), is_changed, retries, wait_s, sleep)
    _check_download(downloaded, archive)
    with atomic_path(target) as temporary:
        _link_or_copy(downloaded, temporary)
    record.unlink(missing_ok=True)
    _keep_record(target, record)
    return target


def require_credentials(archives: Iterable[str | Path]) -> None:
    """Raise InputError if one of these archives has to be downloaded and there are no Kaggle credentials.

    Looks at files and variables only, as kagglehub does; without kagglehub here, as in a conda environment of the
    download alone, nothing is known and nothing raised.
    """
    missing = [Path(path) for path in archives if not Path(path).is_file()]
    try:
        from kagglehub.config import get_kaggle_credentials
    except ImportError:
        return
    if missing:
        where = f"Kaggle file {missing[0].name}"
        try:
            found = get_kaggle_credentials()
        except ValueError as error:
            raise InputError(describe(where, f"bad Kaggle credentials ({error})", "", LOG_IN)) from error
        if found is None:
            raise InputError(describe(where, "no Kaggle credentials found", "", LOG_IN))


def _kagglehub() -> Client:
    try:
        import kagglehub
    except ImportError as error:
        raise missing_extra("kagglehub", "kaggle", "data.source kaggle") from error
    return kagglehub.competition_download


def _download(archive: str, client: Client, force: bool, retries: int, wait_s: float, sleep: Callable) -> Path:
    import requests
    from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError

    where = f"Kaggle file {archive}"
    for attempt in range(retries + 1):
        try:
            return Path(client(COMPETITION, path=archive, force_download=force))
        except UnauthenticatedError as error:
            raise InputError(describe(where, "no Kaggle credentials found", "", LOG_IN)) from error
        except requests.HTTPError as error:
            _raise_if_final(error, where)
            problem = error
        except (requests.RequestException, DataCorruptionError) as error:
            problem = error
        except ValueError as error:  # kagglehub's complaint about a bad kaggle.json
            raise InputError(describe(where, f"bad Kaggle credentials ({error})", "", LOG_IN)) from error
        if attempt < retries:
            wait = wait_s * 2**attempt
            log.warning("%s: attempt %d failed (%s), trying again in %g s", where, attempt + 1, problem, wait)
            sleep(wait)
    what = f"download failed {retries + 1} times, last: {_one_line(problem)}"
    raise InputError(describe(where, what, "", "check the network and run again, it resumes")) from problem


def _raise_if_final(error: OSError, where: str) -> None:
    """Raise InputError for an HTTP error that trying again does not mend."""
    status = error.response.status_code if error.response is not None else None
    if status in _NO_ACCESS:
        raise InputError(describe(where, f"Kaggle refused access (status {status})", "", LOG_IN)) from error
    if status == _NO_FILE:
        expected = "a file of the competition such as train_sample.zip, train_1.zip ... train_5.zip"
        raise InputError(describe(where, "Kaggle has no such file", expected)) from error
    if status is not None and 400 <= status < 500 and status not in _TRY_AGAIN:
        raise InputError(describe(where, f"Kaggle answered {_one_line(error)}")) from error


def _check_download(path: Path, archive: str) -> None:
    """Look into a finished download: kagglehub verifies no MD5 sum if the server sends none."""
    try:
        local_source(path)
    except InputError as error:
        path.unlink(missing_ok=True)  # else the next attempt would find it complete in the cache
        what = f"the download is damaged ({str(error).rstrip('.')})"
        raise InputError(describe(f"Kaggle file {archive}", what, "a zip of events", "run again")) from error


def _link_or_copy(source: Path, target: Path) -> None:
    """Share the bytes with kagglehub's cache where the file system allows: an archive has 10 GB."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _is_changed(target: Path, record: Path) -> bool:
    if not record.is_file():
        return False
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))
        size, digest = expected["size"], expected["sha256"]
    except (ValueError, KeyError, TypeError):
        return True
    return target.stat().st_size != size or _sha256(target) != digest


def _keep_record(target: Path, record: Path) -> None:
    if not record.is_file():
        content = {"competition": COMPETITION, "size": target.stat().st_size, "sha256": _sha256(target)}
        write_json(record, content)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
