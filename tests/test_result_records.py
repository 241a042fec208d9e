"""Each result says with which versions and how many threads it was made; read from a run of ``make smoke``."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[1] / "results/smoke"

# Files -> the versions that they must have.
RECORDS = {
    "tracks/*/*-run.json": {"python", "trackbench", "numpy"},
    "tuned/**/*.json": {"python", "trackbench", "numpy"},
    "models/*/*-facts.json": {"python", "trackbench", "numpy", "torch"},
    "prepared/*/manifest.json": {"python", "trackbench", "numpy", "pandas", "pyarrow"},
    "events/*/*/manifest.json": {"python", "trackbench", "numpy", "pyacts", "pythia8mc"},
}


@pytest.mark.skipif(not (RESULTS / "report.html").is_file(), reason="no results/smoke: run make smoke first")
@pytest.mark.parametrize("pattern", RECORDS)
def test_versions_and_threads(pattern):
    paths = sorted(RESULTS.glob(pattern))
    assert paths
    for path in paths:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert RECORDS[pattern] <= set(record["versions"]), path
        assert all(record["versions"].values()), path
        assert type(record["threads"]) is int and record["threads"] >= 1, path
