"""Counts faults: how many were injected and how many survived, in a table at the end of the run and in a record."""

import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faults.trainings import ROOT, ForkServer

COUNTS = pytest.StashKey()
MEASURED = pytest.StashKey()
START = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--all-faults", action="store_true", help="inject faults at many more moments (make faults)")
    parser.addoption("--faults-record", metavar="FILE", help="write what was injected and survived as JSON")


def pytest_configure(config):
    config.stash[COUNTS] = (Counter(), Counter())
    config.stash[MEASURED] = {}
    config.stash[START] = time.monotonic()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("faults")


def pytest_sessionfinish(session, exitstatus):
    """A fault that was not survived fails the run, even if its test went on."""
    injected, survived = session.config.stash[COUNTS]
    if exitstatus == 0 and injected != survived:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if path := session.config.getoption("--faults-record", default=None):
        from trackbench.files import write_json

        write_json(path, make_record(session))


def make_record(session):
    """The record of a run. passed: whether all tests passed; whole: whether it was that of ``make faults``."""
    from trackbench.machine import machine_facts

    commit = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    config, (injected, survived) = session.config, session.config.stash[COUNTS]
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    tests = {kind: len(terminal.stats.get(kind, ())) for kind in ("passed", "failed", "error", "skipped")}
    skipped = {report.nodeid: report.longrepr[2] for report in terminal.stats.get("skipped", ())}
    whole = config.getoption("--all-faults", default=False) and not config.option.keyword
    return {
        "what": "faults injected by tests (tests/faults), and faults survived",
        "command": "make faults",
        "commit": subprocess.run(commit, capture_output=True, text=True, check=False).stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine_facts(),
        "versions": versions_of_tests(),
        "passed": session.exitstatus == 0,
        "whole": bool(whole and all("::" not in name for name in config.args)),
        "seconds": round(time.monotonic() - config.stash[START]),
        "tests": tests,
        "left_out": {name: reason.removeprefix("Skipped: ") for name, reason in skipped.items()},
        "faults": [{"fault": name, "injected": injected[name], "survived": survived[name]} for name in injected],
        "measured": config.stash[MEASURED],
    }


def versions_of_tests():
    from importlib import metadata

    from trackbench.machine import versions

    names = ("numpy", "pandas", "pyarrow", "pytest", "snakemake", "torch")
    return versions() | {name: metadata.version(name) for name in names}


def pytest_terminal_summary(terminalreporter, config):
    injected, survived = config.stash[COUNTS]
    if not injected:
        return
    terminalreporter.section("faults")
    width = max(map(len, injected))
    terminalreporter.write_line(f"{'fault':<{width}}  injected  survived")
    for name in injected:
        note = "" if injected[name] == survived[name] else "  NOT SURVIVED"
        terminalreporter.write_line(f"{name:<{width}}  {injected[name]:>8}  {survived[name]:>8}{note}")
    terminalreporter.write_line(f"{'all':<{width}}  {injected.total():>8}  {survived.total():>8}")


@pytest.fixture
def injected(request):
    """Context manager: ``with injected("truncated shard"):`` is one fault, survived if the block does not fail."""
    counts = request.config.stash[COUNTS]

    @contextmanager
    def inject(name):
        counts[0][name] += 1
        yield
        counts[1][name] += 1

    return inject


@pytest.fixture
def measured(request):
    """Keep the largest value of a quantity for the record: ``measured("seconds until all jobs had ended", 1.3)``."""
    found = request.config.stash[MEASURED]

    def keep(name, value):
        found[name] = round(max(value, found.get(name, value)), 2)

    return keep


@pytest.fixture(scope="session")
def all_moments(request):
    """Whether to inject faults at many more moments than there is time for in CI."""
    return request.config.getoption("--all-faults", default=False)


@pytest.fixture(scope="session")
def processes():
    """Starts processes that have torch imported."""
    with ForkServer() as server:
        yield server
