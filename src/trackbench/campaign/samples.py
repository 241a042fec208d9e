"""Parents and sets of sub-events, shard by shard: simulate, prepare, cut, and the indices of the whole."""

import logging
import shutil
from pathlib import Path

from trackbench.campaign.study import Study
from trackbench.campaign.workers import Clock, Workers
from trackbench.ceilings import ALL_PARTICLES
from trackbench.data.prepare import DataSelection
from trackbench.data.shards import prepare_shard, write_index
from trackbench.data.splits import split_events
from trackbench.data.subevents import cut_shard, write_subevent_index
from trackbench.evaluation.selection import TruthSelection

log = logging.getLogger(__name__)


def make_samples(study: Study, cache: Path, workers: Workers, clock: Clock) -> bool:
    """Make the parents and all sets, shards beside each other; what is there is kept.

    cache: folder of the generator's initialisation files
    Returns whether all is there: False when the clock was over first.
    """
    if all(_is_indexed(study, name) for name in ("parents", *study.sets)):
        return True
    missing = [shard for shard in study.shards() if not _has_shard(study, shard)]
    if missing:
        from trackbench.simulation.generator import prepare_generator

        prepare_generator(study.simulation, cache)  # once, before the processes that need it
        log.info("%d of %d shards of parents to simulate and cut", len(missing), len(study.shards()))
    for shard in missing:
        workers.submit(f"shard {shard}", make_shard, study, shard, cache)
    if not workers.wait(clock):
        return False
    index_samples(study)
    return True


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


def _is_indexed(study: Study, name: str) -> bool:
    # The manifest is written last.
    return (study.sample(name) / "manifest.json").exists()
