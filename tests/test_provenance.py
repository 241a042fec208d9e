"""Which threads, machine and versions made each result: read from manifests, mixtures named."""

import json
import sys

import numpy as np
import pytest

from trackbench.errors import InputError
from trackbench.files import write_json
from trackbench.machine import surroundings
from trackbench.provenance import provenance, provenance_markdown

VERSIONS = {"python": "3.11.7", "trackbench": "0.1.0", "numpy": "2.4.6"}
RUN_FILE = {"threads": 1, "versions": VERSIONS | {"torch": "2.13.0"}, "device": "cuda:0", "device_name": "Card"}
RUN_FILE["machine"] = {"cpu": "Chip", "cpus": 2, "system": "Linux", "arch": "x86_64"}


@pytest.fixture
def manifests(tmp_path):
    files = {
        "prepared/main/manifest.json": {"threads": 1, "versions": VERSIONS},
        "models/a/main-facts.json": {"threads": 4, "versions": VERSIONS, "device": "cpu"},
        "tracks/main/a-run.json": RUN_FILE,
    }
    for name, content in files.items():
        write_json(tmp_path / name, content)
    return [tmp_path / name for name in files]


def test_one_row_per_manifest_and_one_of_this_job(manifests, tmp_path):
    table = provenance(manifests, tmp_path, threads=3).set_index("result")
    assert list(table.index) == [*(path.relative_to(tmp_path).as_posix() for path in manifests), "this page"]
    assert list(table["threads"]) == [1, 4, 1, 3]
    assert list(table["kind"]) == ["sample", "model", "tracks", "this page"]
    assert list(table["torch"])[:3] == ["", "", "2.13.0"]
    assert list(table["device"])[:3] == ["cpu", "cpu", "Card"]
    assert tuple(table.loc["tracks/main/a-run.json", ["cpu", "system"]]) == ("Chip", "Linux x86_64")
    assert table.loc["this page", "numpy"] == np.__version__


def test_the_summary_counts_results_per_value(manifests, tmp_path):
    table = provenance(manifests, tmp_path, threads=1)
    text = provenance_markdown(table[:3])
    assert "| threads 1 | 2 | sample, tracks |" in text and "| threads 4 | 1 | model |" in text
    assert "| numpy 2.4.6 | 3 | sample, model, tracks |" in text
    assert "Every package has one version in all of them." in text and "Mixed" not in text


def test_a_mixture_of_versions_is_named(manifests, tmp_path):
    write_json(manifests[1], {"threads": 1, "versions": VERSIONS | {"numpy": "2.4.5"}})
    text = provenance_markdown(provenance(manifests, tmp_path, threads=1)[:3])
    assert "**Mixed: numpy.**" in text and "Every package" not in text
    assert "| numpy 2.4.5 | 1 | model |" in text and "| numpy 2.4.6 | 2 | sample, tracks |" in text


def test_a_model_made_with_several_is_named(manifests, tmp_path):
    """A row for each sitting of a training that went on with something else, one result all the same."""
    machine = {"cpu": "Chip", "cpus": 2, "system": "Linux", "arch": "x86_64"}
    first = {"threads": 1, "device": "cuda (Card)", "machine": machine, "versions": VERSIONS | {"torch": "2.12.0"}}
    last = {"threads": 4, "device": "cpu", "machine": machine, "versions": VERSIONS | {"torch": "2.13.0"}}
    sittings = [{**first, "first_step": 1, "last_step": 30}, {**last, "first_step": 31, "last_step": 40}]
    write_json(manifests[1], {**last, "sittings": sittings})
    table = provenance(manifests, tmp_path, threads=1)[:4]
    assert list(table["result"])[1:3] == ["models/a/main-facts.json"] * 2
    assert list(table["torch"])[1:3] == ["2.12.0", "2.13.0"] and list(table["threads"])[1:3] == [1, 4]
    text = provenance_markdown(table)
    assert "**Mixed within models/a/main-facts.json: threads, device, torch.**" in text and "**Mixed: torch.**" in text
    assert "| numpy 2.4.6 | 3 | sample, model, tracks |" in text and "| torch 2.12.0 | 1 | model |" in text
    write_json(manifests[1], {**last, "sittings": sittings[1:]})
    text = provenance_markdown(provenance(manifests, tmp_path, threads=1)[:3])
    assert "Mixed" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"threads": 1}, "a.json: says nothing of versions, expected threads and versions; remove it and run again"),
        ({}, "says nothing of threads and versions"),
        ("{", "missing or damaged manifest"),
        (None, "missing or damaged manifest"),
    ],
)
def test_a_manifest_that_says_nothing(tmp_path, content, words):
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=words):
        provenance([tmp_path / "a.json"], tmp_path, threads=1)


def test_surroundings_name_what_is_loaded():
    found = surroundings(2)
    assert found["threads"] == 2 and found["machine"]["cpus"] >= 1
    assert found["versions"]["numpy"] == np.__version__
    assert ("torch" in found["versions"]) == ("torch" in sys.modules)
