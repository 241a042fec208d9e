"""Counts faults: how many were injected and how many survived, in a table at the end of the run."""

from collections import Counter
from contextlib import contextmanager

import pytest
from faults.trainings import ForkServer

COUNTS = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--all-faults", action="store_true", help="inject faults at many more moments (make faults)")


def pytest_configure(config):
    config.stash[COUNTS] = (Counter(), Counter())


def pytest_collection_modifyitems(items):
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker("faults")


def pytest_terminal_summary(terminalreporter, config):
    injected, survived = config.stash[COUNTS]
    if not injected:
        return
    terminalreporter.section("faults")
    width = max(map(len, injected))
    terminalreporter.write_line(f"{'fault':<{width}}  injected  survived")
    for name in injected:
        terminalreporter.write_line(f"{name:<{width}}  {injected[name]:>8}  {survived[name]:>8}")
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


@pytest.fixture(scope="session")
def all_moments(request):
    """Whether to inject faults at many more moments than there is time for in CI."""
    return request.config.getoption("--all-faults", default=False)


@pytest.fixture(scope="session")
def processes():
    """Starts processes that have torch imported."""
    with ForkServer() as server:
        yield server
