"""Simulate events: generator, detector, interactions, inefficiency, noise, digitisation, weights, files."""

import logging
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.data.weights import hit_weights
from trackbench.errors import ConfigError, describe
from trackbench.geometry.acts_detector import build_detector
from trackbench.simulation.config import SimulationConfig
from trackbench.simulation.digitisation import Clusters, Modules, digitise
from trackbench.simulation.fatras import SimulatedHits, no_hits, propagate
from trackbench.simulation.generator import Generator, prepare_generator
from trackbench.simulation.interactions import interact
from trackbench.simulation.misalignment import displace, module_shifts
from trackbench.simulation.noise import noise_hits
from trackbench.simulation.output import PARTICLE_COLUMNS, EventTables, write_event, write_manifest

log = logging.getLogger(__name__)

# progress(event_id, number of events done, number of events in all)
Progress = Callable[[int, int, int], None]

# Each random stage has its own stream: changing one (say the efficiency) leaves the others as they were.
# 0 is the generator's.
_INTERACTIONS, _INEFFICIENCY, _NOISE, _DIGITISATION = 1, 2, 3, 4
# Primaries, their children and grandchildren (235 of 2832 secondaries in event 1000); the last do not interact.
N_GENERATIONS = 3


class Simulator:
    """Simulates single events. Setting up takes about 2 CPU s, once per process.

    config: what to simulate
    cache_dir: folder of the generator's initialisation files (made if they are not there)
    """

    def __init__(self, config: SimulationConfig, cache_dir: str | Path):
        self.config = config
        self.generator = Generator(config, cache_dir)
        self.modules = Modules(build_detector())
        self.shifts = module_shifts(len(self.modules.module_id), config.misalignment, config.seed)

    def event(self, event_id: int) -> EventTables:
        """Simulate one event; depends on config and ``event_id`` only."""
        particles = self.generator.generate(event_id)
        particles, hits = self._detector(particles, event_id)
        recorded = self._rng(event_id, _INEFFICIENCY).random(len(hits)) < self.config.hit_efficiency
        return self._tables(particles, hits.take(recorded), event_id)

    def _rng(self, event_id: int, stage: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, event_id, stage])

    def _acts_seed(self, generation: int) -> int:
        return int(np.random.SeedSequence([self.config.seed, generation]).generate_state(1)[0])

    def _detector(self, primaries: pd.DataFrame, event_id: int) -> tuple[pd.DataFrame, SimulatedHits]:
        """Propagate primaries, let hadrons interact, propagate their children, and so on.

        Returns all particles (primaries first) and the hits, which count rows of that table.
        """
        rng = self._rng(event_id, _INTERACTIONS)
        tables, hits, n_particles = [], no_hits(), 0
        table = primaries
        for generation in range(N_GENERATIONS):
            new = propagate(table, event_id, self._acts_seed(generation), self.config.field)
            tables.append(table)
            if generation + 1 < N_GENERATIONS:
                kept, table = interact(new, table, rng)
                new = new.take(kept)
            hits = hits.concatenate(new.shifted(n_particles))
            n_particles += len(tables[-1])
        return pd.concat(tables, ignore_index=True), hits

    def _tables(self, particles: pd.DataFrame, hits: SimulatedHits, event_id: int) -> EventTables:
        """Add noise, digitise, number the hits and compute weights."""
        rng, fraction = self._rng(event_id, _NOISE), self.config.noise_fraction
        noise_module, noise_position, noise_direction = noise_hits(self.modules, len(hits), fraction, rng)
        module = np.concatenate([hits.module, noise_module])
        # Random inside a module: the number of a hit must not tell noise from true hits, nor particles apart.
        order = np.lexsort((rng.random(len(module)), module))
        module = module[order]
        particle_id = particles["particle_id"].to_numpy()[hits.particle]
        particle_id = np.concatenate([particle_id, np.zeros(len(noise_module), np.int64)])[order]
        position = np.concatenate([hits.position, noise_position])[order]
        momentum = np.concatenate([hits.momentum, noise_direction])[order]
        clusters = digitise(self.modules, module, position, momentum, self._rng(event_id, _DIGITISATION))
        if self.config.misalignment:
            clusters = replace(clusters, xyz=displace(self.modules, module, clusters.xyz, self.shifts))
        truth = _truth_table(particle_id, position, momentum)
        truth["weight"] = hit_weights(truth, particles, phase2=True)
        n_hits = np.bincount(hits.particle, minlength=len(particles))
        particles = particles.assign(nhits=n_hits)[list(PARTICLE_COLUMNS)]
        particles = particles.sort_values("particle_id", ignore_index=True)
        cells = _cell_table(clusters) if self.config.cells else None
        return EventTables(event_id, _hit_table(self.modules, module, clusters), truth, particles, cells)


def _hit_table(modules: Modules, module: np.ndarray, clusters: Clusters) -> pd.DataFrame:
    columns = {"hit_id": np.arange(1, len(module) + 1)}
    columns.update({axis: clusters.xyz[:, i] for i, axis in enumerate("xyz")})
    columns.update({name: getattr(modules, name)[module] for name in ("volume_id", "layer_id", "module_id")})
    return pd.DataFrame(columns)


def _truth_table(particle_id: np.ndarray, position: np.ndarray, momentum: np.ndarray) -> pd.DataFrame:
    columns = {"hit_id": np.arange(1, len(particle_id) + 1), "particle_id": particle_id}
    columns.update({f"t{axis}": position[:, i] for i, axis in enumerate("xyz")})
    columns.update({f"tp{axis}": momentum[:, i] for i, axis in enumerate("xyz")})
    return pd.DataFrame(columns)


def _cell_table(clusters: Clusters) -> pd.DataFrame:
    values = {"hit_id": clusters.hit + 1, "ch0": clusters.ch0, "ch1": clusters.ch1, "value": clusters.value}
    return pd.DataFrame(values)


def simulate(
    config: SimulationConfig,
    event_ids: Iterable[int],
    out_dir: str | Path,
    *,
    cache_dir: str | Path,
    drawn_as: Iterable[int] | None = None,
    progress: Progress | None = None,
) -> None:
    """Simulate events in this process and write them with their manifest.

    event_ids: numbers of the events, each 0..999,999,999; an event is the same in every list it is in
    drawn_as: number by which each event draws its random numbers, default its own; events drawn by the
        same number with different settings are the same collisions seen under different conditions
    out_dir: gets ``event%09d-{hits,truth,particles[,cells]}.{parquet,csv,csv.gz}`` and ``manifest.json``
    cache_dir: folder of the generator's initialisation files, shared by all jobs
    progress: called after every event
    Raises ConfigError for bad event ids and MissingExtraError if pyacts or pythia8mc is not installed.
    """
    event_ids = _checked_events(event_ids)
    numbers = event_ids if drawn_as is None else _checked_events(drawn_as)
    if len(numbers) != len(event_ids):
        raise ConfigError(
            describe("simulation drawn_as", f"{len(numbers)} numbers", f"one for each of {len(event_ids)} events")
        )
    simulator = Simulator(config, cache_dir)
    for done, (event_id, number) in enumerate(zip(event_ids, numbers, strict=True), start=1):
        event = replace(simulator.event(number), event_id=event_id)
        write_event(event, out_dir, config.format)
        _report(event_id, done, len(event_ids), progress)
    write_manifest(out_dir, config, event_ids, None if drawn_as is None else numbers)


def simulate_parallel(
    config: SimulationConfig,
    event_ids: Iterable[int],
    out_dir: str | Path,
    *,
    cache_dir: str | Path,
    workers: int,
    progress: Progress | None = None,
) -> None:
    """Simulate events like ``simulate`` (same files), in ``workers`` processes."""
    event_ids = _checked_events(event_ids)
    workers = min(workers, len(event_ids))
    if workers < 2:
        simulate(config, event_ids, out_dir, cache_dir=cache_dir, progress=progress)
        return
    prepare_generator(config, cache_dir)
    # Fresh processes: ACTS and its threads must not be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (config, cache_dir, out_dir)) as pool:
        futures = [pool.submit(_simulate_one, event_id) for event_id in event_ids]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                _report(future.result(), done, len(event_ids), progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    write_manifest(out_dir, config, event_ids)


_worker: tuple[Simulator, Path] | None = None  # set in worker processes only


def _start_worker(config: SimulationConfig, cache_dir: str | Path, out_dir: str | Path) -> None:
    global _worker
    _worker = (Simulator(config, cache_dir), Path(out_dir))


def _simulate_one(event_id: int) -> int:
    simulator, out_dir = _worker
    write_event(simulator.event(event_id), out_dir, simulator.config.format)
    return event_id


def _checked_events(event_ids: Iterable[int]) -> list[int]:
    event_ids = [int(event_id) for event_id in event_ids]
    bad = [event_id for event_id in event_ids if not 0 <= event_id <= 999_999_999]
    if bad or not event_ids or len(set(event_ids)) < len(event_ids):
        what = f"event id {bad[0]}" if bad else f"{len(event_ids)} events, {len(set(event_ids))} distinct"
        raise ConfigError(describe("simulation events", what, "at least one, distinct, each in 0..999999999"))
    return event_ids


def _report(event_id: int, done: int, total: int, progress: Progress | None) -> None:
    log.info("simulated event %d (%d of %d)", event_id, done, total)
    if progress is not None:
        progress(event_id, done, total)
