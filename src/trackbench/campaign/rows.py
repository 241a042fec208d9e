"""Rows of the comparison: tune on validation events, reconstruct the test events, evaluate."""

import json
from collections.abc import Sequence
from pathlib import Path

from trackbench.campaign.study import Study
from trackbench.campaign.workers import Workers
from trackbench.ceilings import ALL_PARTICLES, write_ceilings
from trackbench.data.shards import read_events
from trackbench.evaluation.run import EvaluationFiles, evaluate_tracks
from trackbench.evaluation.selection import TruthSelection
from trackbench.learning_config import block_of, find_row

METRICS = {"subevents": "trackml_score", "collisions": "dm"}  # block of the set -> what settings are tuned for


def submit_rows(
    study: Study, workers: Workers, submitted: set[tuple[str, str]], sets: Sequence[str] | None = None
) -> None:
    """Start all rows that can be made and are not there, ceilings of a set of few tracks as one task.

    submitted: (set, row) of earlier calls, which are left out; new ones are added
    sets: whose samples are complete, default those of few tracks
    """
    for set_name in study.sets if sets is None else sets:
        rows = [row for row, _, _ in study.rows(set_name) if _has_weights(study, set_name, row)]
        if set_name in study.sets:
            rows.insert(0, "ceilings")
        for row in rows:
            if (set_name, row) in submitted or is_done(study, set_name, row):
                continue
            submitted.add((set_name, row))
            function = make_ceilings if row == "ceilings" else make_row
            arguments = (study, set_name) if row == "ceilings" else (study, set_name, row)
            workers.submit(f"{row} of {set_name}", function, *arguments)


def _has_weights(study: Study, set_name: str, name: str) -> bool:
    row = find_row(study.config, name, set_name)
    return row.model is None or study.weights(row.model, row.trained_on).exists()


def is_done(study: Study, set_name: str, row: str) -> bool:
    """Whether a row is evaluated; "ceilings" stands for all of them."""
    names = study.ceilings() if row == "ceilings" else (row,)
    return all(metrics_files(study, set_name, name).counts.exists() for name in names)


def selection_of(study: Study, set_name: str) -> TruthSelection:
    """Particles that are asked for in a set."""
    return ALL_PARTICLES if set_name in study.sets else TruthSelection(**study.config["selection"])


def metrics_files(study: Study, set_name: str, row: str) -> EvaluationFiles:
    """Files of an evaluated row."""
    stem = study.folder / "metrics" / study.sample(set_name).name / row
    endings = {"counts": "counts.csv"}
    names = {name: endings.get(name, f"{name}.parquet") for name in EvaluationFiles._fields}
    return EvaluationFiles(**{name: Path(f"{stem}-{ending}") for name, ending in names.items()})


def make_row(study: Study, set_name: str, name: str) -> None:
    """Tune, reconstruct and evaluate one row of one set."""
    from trackbench.runner import run_tracker
    from trackbench.trackers.base import build_tracker, load_module

    _one_thread()
    row, index = find_row(study.config, name, set_name), study.sample(set_name) / "index.csv"
    settings = dict(row.settings)
    if row.model:
        settings["checkpoint"] = str(study.weights(row.model, row.trained_on))
    if hasattr(load_module(row.tracker).Config, "device"):
        settings["device"] = study.device
    settings = _tuned(study, row.trained_on or set_name, name, row.tracker, settings)
    tracker = build_tracker(row.tracker, settings, study.seed)
    stem = study.folder / "tracks" / study.sample(set_name).name / name
    names = ("{}.parquet", "{}-parameters.parquet", "{}-timing.csv", "{}-run.json")
    files = [Path(text.format(stem)) for text in names]
    facts = {"tracker": name, "module": row.tracker, "threads": 1}
    run_tracker(tracker, read_events(index, "test"), *files, facts=facts)
    _evaluate(study, set_name, name, files[0], files[1])


def make_ceilings(study: Study, set_name: str) -> None:
    """Write and evaluate the ceilings of one set."""
    _one_thread()
    stem = study.folder / "tracks" / study.sample(set_name).name
    files = {name: (stem / f"{name}.parquet", stem / f"{name}-parameters.parquet") for name in study.ceilings()}
    write_ceilings(study.sample(set_name) / "index.csv", files)
    for name, (tracks, parameters) in files.items():
        _evaluate(study, set_name, name, tracks, parameters)


def _tuned(study: Study, set_name: str, name: str, tracker: str, settings: dict) -> dict:
    """Settings after tuning on validation events of a set; the tuned file of an earlier row is taken as it is."""
    from trackbench.trackers.base import load_module
    from trackbench.tuning import tune, write

    block = block_of(study.config, set_name)
    known = study.config["collisions"]["sets"][set_name]["events"] if block == "collisions" else study.events
    n_events = min(study.config[block]["tuning"]["events"], known["val"])
    if not n_events or not load_module(tracker).Tracker.space_to_tune(settings).keys() - settings.keys():
        return settings
    path = study.folder / "tuned" / study.sample(set_name).name / f"{name}.json"
    if not path.exists():
        events = list(read_events(study.sample(set_name) / "index.csv", "val", limit=n_events))
        selection, metric = selection_of(study, set_name), METRICS[block]
        write(path, tune(tracker, settings, events, selection, metric, seed=study.seed))
    return json.loads(path.read_text(encoding="utf-8"))["settings"]


def _evaluate(study: Study, set_name: str, name: str, tracks: Path, parameters: Path) -> None:
    events, files = read_events(study.sample(set_name) / "index.csv", "test"), metrics_files(study, set_name, name)
    evaluate_tracks(tracks, events, selection_of(study, set_name), files, parameters)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
