"""Samples of whole events, shard by shard: simulate, prepare, and index each sample once all its shards are there."""

import shutil
from pathlib import Path

from trackbench.campaign.study import Study
from trackbench.data.shards import prepare_shard, write_index
from trackbench.data.splits import split_events
from trackbench.evaluation.selection import TruthSelection


def collision_shard_files(study: Study, set_name: str, shard: str) -> tuple[Path, Path]:
    """Hits and particles file of a shard of a sample."""
    folder = study.sample(set_name)
    return folder / f"shard-{shard}-hits.parquet", folder / f"shard-{shard}-particles.parquet"


def has_collision_shard(study: Study, origin: str, shard: str) -> bool:
    """Whether a shard of a simulated sample and of those derived from it is prepared."""
    names = study.prepared_with(origin)
    return all(path.exists() for name in names for path in collision_shard_files(study, name, shard))


def make_collision_shard(study: Study, origin: str, shard: str, cache: Path) -> None:
    """Simulate one shard and prepare it, also for the derived samples; the raw events are removed.

    origin: a simulated sample; cache: folder of the generator's initialisation files
    """
    from trackbench.simulation.simulate import simulate

    raw = study.folder / "events" / origin / f"shard-{shard}"
    shutil.rmtree(raw, ignore_errors=True)  # of a call that ended early
    simulate(study.collision_simulation(origin), study.collision_numbers(origin, shard), raw, cache_dir=cache)
    block = study.config["collisions"]["sets"][origin]
    for name in study.prepared_with(origin):
        files = collision_shard_files(study, name, shard)
        n_events = sum(block["events"].values())
        prepare_shard([raw], int(shard), block["shard_events"], n_events, study.hit_selection(name), *files)
    shutil.rmtree(raw)


def index_collisions(study: Study, set_name: str) -> bool:
    """Write index and manifest of a sample, the manifest last. Returns whether it is there: not before all shards."""
    folder, block = study.sample(set_name), study.config["collisions"]["sets"][set_name]
    if (folder / "manifest.json").exists():
        return True
    hits = [collision_shard_files(study, set_name, shard) for shard in study.collision_shards(set_name)]
    if not all(path.exists() for files in hits for path in files):
        return False
    selection = TruthSelection(**study.config["selection"])
    splits = split_events(sum(block["events"].values()), block["events"], study.seed)
    fields = {"source": "simulate", "seed": study.seed, "truth_selection": selection.as_dict()}
    shard_hits = [path for path, _ in hits]
    write_index(shard_hits, folder / "index.csv", folder / "manifest.json", splits, fields, selection.selected)
    return True
