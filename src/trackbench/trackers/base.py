"""The one interface behind which every tracker lives, and how trackers are found.

A tracker is one module of this package with a frozen dataclass ``Config`` and a class ``Tracker``
(subclass of ``TrackerBase``) that implements ``find_tracks``. Its name is the module's name. Import
heavy packages (sklearn, hdbscan, numba kernels, torch) inside methods: the module itself must import
in milliseconds, because listing trackers and checking the configuration imports all of them.
"""

import difflib
import importlib
import pkgutil
import time
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

import trackbench.trackers
from trackbench.data.hits import Hits
from trackbench.data.tracks import Tracks
from trackbench.errors import ConfigError, InputError, describe
from trackbench.settings import build_dataclass

STAGES = (
    *("features", "graph", "filter", "network", "clustering", "postprocess"),
    *("read", "seeding", "finding", "ambiguity"),  # of Kalman filters
)


class Timer:
    """Seconds per stage of one ``reconstruct`` call; stages of ``STAGES`` only, so bars compare."""

    def __init__(self):
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall and CPU seconds of the block to stage ``name``."""
        if name not in STAGES:
            raise ValueError(f"unknown stage {name!r}, expected one of {', '.join(STAGES)}")
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
            self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu


class TrackerBase(ABC):
    """Base class of all trackers: input checks, padding and hit order are handled here, once.

    config: the module's ``Config``
    seed: seed of everything random inside the tracker
    """

    # Configuration values to try on validation events: name -> values; empty = nothing to tune.
    search_space: typing.ClassVar[dict[str, tuple]] = {}
    # True for a tracker that returns the parameters of its candidates.
    fits: typing.ClassVar[bool] = False
    # True for a tracker that needs hits in the planes of the modules they name, as measured events have them; hits that
    # were turned or displaced (``trackbench.tiling``) are refused.
    needs_modules: typing.ClassVar[bool] = False
    # Conda environment of its jobs, a file of envs/: "cluster" has no torch, "acts" neither torch nor clusterers but
    # pyacts, "torch" all that "cluster" has.
    environment: typing.ClassVar[str] = "torch"
    # True for a tracker that wants the features of cells in ``Hits.features``; a property where settings or weights
    # decide. The command then reads the cells of an event where there are any; workflows have data.cells.
    needs_features: bool = False

    def __init__(self, config, seed: int = 0):
        self.config = config
        self.seed = seed

    @classmethod
    def space_to_tune(cls, settings: dict) -> dict[str, tuple]:
        """Part of ``search_space`` that matters beside the given settings; by default all of it."""
        return cls.search_space

    @abstractmethod
    def find_tracks(self, hits: Hits, timer: Timer) -> np.ndarray | Tracks:
        """Find tracks among real hits, sorted by hit_id, at least one. Implemented by each tracker.

        Returns (n,) int: one label per hit, negative = unassigned; or, if the tracker fits its candidates,
        ``Tracks`` with these labels and the parameters of label 0, 1, ... in order.
        """

    def reconstruct(self, hits: Hits, timer: Timer | None = None) -> np.ndarray:
        """Assign each hit to a track candidate. Like ``reconstruct_tracks``, but returns the labels only."""
        return self.reconstruct_tracks(hits, timer).labels

    def reconstruct_tracks(self, hits: Hits, timer: Timer | None = None) -> Tracks:
        """Assign each hit to a track candidate and fit the candidates, if the tracker can.

        hits: the hits of one event, any order, padding allowed
        timer: collects seconds per stage
        Returns labels (n,) int64, 0..n_tracks-1 in input order, -1 = unassigned or padding, and parameters
        of the n_tracks candidates, None from trackers that do not fit (and for an event without hits). The
        result depends on the set of hits only, neither on their order nor on padding.
        Raises InputError if a valid hit is not finite or a hit_id appears twice.
        """
        labels = np.full(len(hits), -1, dtype=np.int64)
        index = np.flatnonzero(hits.valid)
        index = index[np.argsort(hits.hit_id[index], kind="stable")]
        if index.size == 0:
            return Tracks(labels)
        real = hits.take(index)
        _check_hits(real)
        tracks = self.find_tracks(real, timer or Timer())
        if not isinstance(tracks, Tracks):
            tracks = Tracks(tracks)
        found = np.array(tracks.labels, dtype=np.int64)
        if found.shape != (index.size,):
            raise ValueError(f"{type(self).__module__}: {found.shape} labels for {index.size} hits")
        assigned = found >= 0
        found[~assigned] = -1
        kept, found[assigned] = np.unique(found[assigned], return_inverse=True)
        labels[index] = found
        if tracks.parameters is None:
            return Tracks(labels)
        if kept.max(initial=-1) >= len(tracks.parameters):
            what = f"label {kept[-1]}, but parameters of {len(tracks.parameters)} candidates"
            raise ValueError(f"{type(self).__module__}: {what}")
        return Tracks(labels, tracks.parameters.take(kept))


def _check_hits(hits: Hits) -> None:
    finite = np.isfinite(hits.xyz).all(axis=1)
    if not finite.all():
        bad = hits.hit_id[~finite]
        where, what = f"event {hits.event_id}", f"{bad.size} hits with a non-finite position (first hit_id {bad[0]})"
        raise InputError(describe(where, what, "finite x, y, z [mm]", "remove them or read the event again"))
    repeated = hits.hit_id[1:][np.diff(hits.hit_id) == 0]
    if repeated.size:
        what = f"{repeated.size} duplicate hit_id (first {repeated[0]})"
        raise InputError(describe(f"event {hits.event_id}", what, "unique hit_id"))


def tracker_names() -> list[str]:
    """Names of all trackers, sorted: the public modules of ``trackbench.trackers`` except ``base``."""
    modules = pkgutil.iter_modules(trackbench.trackers.__path__)
    return sorted(m.name for m in modules if not (m.ispkg or m.name == "base" or m.name.startswith("_")))


def load_module(name: str):
    """Return the module of tracker ``name``; raises ConfigError with a suggestion if there is none."""
    names = tracker_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        remedy = f"did you mean '{close[0]}'?" if close else ""
        raise ConfigError(describe(f"tracker '{name}'", "does not exist", "one of " + ", ".join(names), remedy))
    return importlib.import_module(f"trackbench.trackers.{name}")


def common_environment(names: Iterable[str]) -> str:
    """Return the conda environment, a name such as "cluster", in which all of these trackers can run.

    Raises ConfigError if there is none.
    """
    by_name = {name: load_module(name).Tracker.environment for name in names}
    found = set(by_name.values()) or {"cluster"}
    if found == {"cluster", "torch"}:
        return "torch"
    if len(found) > 1:
        what = "environments " + ", ".join(f"{value} ({name})" for name, value in by_name.items())
        raise ConfigError(describe("trackers of one job", what, "one environment, or cluster and torch"))
    return found.pop()


def build_config(name: str, settings: dict | None = None):
    """Build the ``Config`` of tracker ``name`` from plain settings.

    Raises ConfigError for an unknown key or a value of the wrong type. Range checks belong in the
    ``__post_init__`` of the Config and raise ConfigError too.
    """
    return build_dataclass(load_module(name).Config, f"trackers.{name}", settings)


def build_tracker(name: str, settings: dict | None = None, seed: int = 0) -> TrackerBase:
    """Build tracker ``name`` from plain settings (see ``build_config``)."""
    config = build_config(name, settings)
    return load_module(name).Tracker(config, seed)
