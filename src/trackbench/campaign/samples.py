"""Samples of a study, made in the background; parents and sets of few tracks shard by shard, with their indices."""

import logging
import shutil
from pathlib import Path

from trackbench.campaign.collision_samples import has_collision_shard, index_collisions, make_collision_shard
from trackbench.campaign.study import Study
from trackbench.campaign.workers import Clock, Workers
from trackbench.ceilings import ALL_PARTICLES
from trackbench.data.prepare import DataSelection
from trackbench.data.shards import prepare_shard, write_index
from trackbench.data.splits import split_events
from trackbench.data.subevents import cut_shard, write_subevent_index
from trackbench.evaluation.selection import TruthSelection

log = logging.getLogger(__name__)


class Samples:
    """All samples of a study while they are made by workers beside each other; what is there is kept.

    cache: folder of the generator's initialisation files
    Sets of few tracks come first and together, as they are cut from the same parents; then the samples of whole events
    one after the other, in the order of the configuration.
    """

    def __init__(self, study: Study, cache: Path, workers: Workers):
        self.study, self.cache, self.workers = study, cache, workers

    def begin(self) -> None:
        """Submit the shards that are missing."""
        study, cache = self.study, self.cache
        if study.sets and not all(map(study.is_there, ("parents", *study.sets))):
            missing = [shard for shard in study.shards() if not _has_shard(study, shard)]
            self._submit("parents", study.simulation, make_shard, [(study, shard, cache) for shard in missing])
        for name in study.origins:
            shards = [shard for shard in study.collision_shards(name) if not has_collision_shard(study, name, shard)]
            tasks = [(study, name, shard, cache) for shard in shards]
            self._submit(name, study.collision_simulation(name), make_collision_shard, tasks)

    def _submit(self, name: str, simulation, function, tasks: list[tuple]) -> None:
        if not tasks:
            return
        from trackbench.simulation.generator import prepare_generator

        prepare_generator(simulation, self.cache)  # once, before the processes that need it
        log.info("%s: %d shards to simulate and prepare", name, len(tasks))
        for arguments in tasks:
            self.workers.submit(f"shard {arguments[-2]} of {name}", function, *arguments)

    def ready(self, set_name: str) -> bool:
        """Whether a set is complete; its index is written if only that is missing."""
        study = self.study
        if study.is_there(set_name):
            return True
        if set_name in study.collisions:
            return index_collisions(study, set_name)
        if not all(_has_shard(study, shard) for shard in study.shards()):
            return False
        index_samples(study)
        return True

    def wait(self, set_name: str, clock: Clock) -> bool:
        """Wait until a set is complete or the clock is over. Returns whether it is. Raises what a worker raised."""
        if not self.ready(set_name):
            self.workers.wait(clock, lambda: self.ready(set_name))
        return self.ready(set_name)


def make_shard(study: Study, shard: str, cache: Path) -> None:
    """Simulate and prepare one shard of parents and cut its sub-events; the raw events are removed."""
    parents = shard_files(study, "parents", shard)
    if not all(path.exists() for path in parents):
        raw = study.folder / "events" / f"shard-{shard}"
        shutil.rmtree(raw, ignore_errors=True)  # of a call that ended early
        _simulate(study, shard, raw, cache)
        prepare_shard(
            [raw], int(shard), study.shard_events, sum(study.events.values()), DataSelection("full"), *parents
        )
        shutil.rmtree(raw)
    for name in study.sets:
        files = shard_files(study, name, shard)
        if not all(path.exists() for path in files):
            cut_shard(parents[0], study.cut(name), *files)


def _simulate(study: Study, shard: str, raw: Path, cache: Path) -> None:
    from trackbench.simulation.simulate import simulate

    simulate(study.simulation, study.event_numbers(shard), raw, cache_dir=cache)


def index_samples(study: Study) -> None:
    """Write index and manifest of the parents and of each set."""
    folder = study.sample("parents")
    splits = split_events(sum(study.events.values()), study.events, study.seed)
    fields = {"source": "simulate", "seed": study.seed}
    parents_index = folder / "index.csv"
    selection = TruthSelection(**study.config["selection"])
    write_index(
        [shard_files(study, "parents", shard)[0] for shard in study.shards()],
        parents_index,
        folder / "manifest.json",
        splits,
        {**fields, "truth_selection": selection.as_dict()},
        selection.selected,
    )
    fields |= {"truth_selection": ALL_PARTICLES.as_dict()}
    for name in study.sets:
        files = [shard_files(study, name, shard)[0] for shard in study.shards()]
        folder = study.sample(name)
        write_subevent_index(
            files, parents_index, folder / "index.csv", folder / "manifest.json", fields, ALL_PARTICLES.selected
        )


def shard_files(study: Study, sample: str, shard: str) -> tuple[Path, Path]:
    """Hits and particles file of a shard of "parents" or a set."""
    folder = study.sample(sample)
    return folder / f"shard-{shard}-hits.parquet", folder / f"shard-{shard}-particles.parquet"


def _has_shard(study: Study, shard: str) -> bool:
    return all(path.exists() for name in ("parents", *study.sets) for path in shard_files(study, name, shard))
