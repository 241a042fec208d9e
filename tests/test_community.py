"""The files around the code: licence, citation, pins, hooks, examples in the docs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from conda import names
from doc_examples import example_block

import trackbench

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")])


def test_requirements_and_extras_equal_the_lock():
    wanted = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and line[0] != "#"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted += [pin for extra in project["optional-dependencies"].values() for pin in extra if "==" in pin]
    assert len(wanted) > 20
    for pin in wanted:
        name, version = pin.split("==")
        assert names.lock()[names.conda_name(name)] == version, pin


def test_licence_is_mit_and_ours():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The trackbench authors\n")
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in text


def test_citation_has_the_required_fields():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["version"] == trackbench.__version__
    assert citation["license"] == "MIT"
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_changelog_has_this_version_and_a_heading_for_results():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    assert latest.startswith(f"[{trackbench.__version__}]")
    assert "### Changes results" in latest


def test_hooks_work_offline_and_use_the_pinned_tools():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in config["repos"][0]["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "snakefmt", "large-files"}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    for name in ("ruff", "ruff-format", "snakefmt"):
        tool = hooks[name]["entry"].split()[0]
        assert tool.startswith(".venv/bin/") and Path(tool).name in names.lock()


def test_large_file_guard(tmp_path):
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entry = next(hook["entry"] for hook in config["repos"][0]["hooks"] if hook["id"] == "large-files")
    small, large = tmp_path / "small file.py", tmp_path / "large file.py"
    small.write_bytes(b"x" * 1000)
    large.write_bytes(b"x" * 600_000)

    def guard(*files):
        command = ["bash", "-c", f'{entry} "$@"', "guard", *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True)

    assert guard(small).returncode == 0
    refused = guard(small, large)
    assert refused.returncode == 1
    assert str(large) in refused.stdout and str(small) not in refused.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_in_documents_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [t for t in targets if t and "://" not in t and not (path.parent / t).exists()]
    assert not missing


def test_no_path_of_somebodys_machine_is_committed():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    personal = re.compile(r"(?<![\w.}])/(?:home|root|work|Users|afs|eos|scratch)/[\w.]")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".pdf", ".parquet", ".gz", ".pt"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{name}: {hit[0]}" for hit in personal.finditer(text)]
    assert not found


def test_readme_shows_the_tested_example():
    readme = ROOT / "README.md"
    if not readme.exists() or "<!-- example: roads -->" not in readme.read_text(encoding="utf-8"):
        pytest.skip("README.md does not show the example")
    assert example_block(readme, "roads") == example_block(ROOT / "docs/adding-a-tracker.md", "roads")
