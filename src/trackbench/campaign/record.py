"""What a study found: one record of plain values, tables for people, a model card, and weights to take away."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from string import Template

import pandas as pd

from trackbench.campaign.collision_record import collision_samples, collision_text
from trackbench.campaign.rows import is_done, metrics_files
from trackbench.campaign.study import Study
from trackbench.campaign.trainings import Progress, facts_file, history_file, progress
from trackbench.evaluation.markup import markdown_table
from trackbench.evaluation.sample import Sample
from trackbench.evaluation.tables import Measured
from trackbench.evaluation.trackformers import Entry, FirstPhaseOptions, first_phase_table
from trackbench.evaluation.trackformers_published import read_published
from trackbench.evaluation.trackformers_text import first_phase_markdown
from trackbench.files import atomic_path, write_json, write_text

LARGEST_WEIGHTS = 10_000_000  # bytes of one weights file
LARGEST_FILE = 16 * 2**20  # bytes of one file that comes back from a lent machine
_DATE = (1980, 1, 1, 0, 0, 0)  # of every file in an archive, so that equal files give equal bytes


def study_table(study: Study, published: Path) -> pd.DataFrame | None:
    """The table of the first phase of all sets whose floor and ceilings are there, None without any.

    Rows that are not evaluated yet are left out. Times are not in it: rows are evaluated while the device trains.
    """
    entries = [entry for name in study.sets for entry in _entries(study, name)]
    if not entries:
        return None
    sample = Sample.load(study.sample(study.sets[0]) / "manifest.json")
    options = FirstPhaseOptions(study.config["evaluation"]["replicas"], study.seed, sample.origin())
    return first_phase_table(entries, options, read_published(published))


def _entries(study: Study, set_name: str) -> list[Entry]:
    rows = [(row, kind, model) for row, kind, model in study.rows(set_name) if is_done(study, set_name, row)]
    if not is_done(study, set_name, "ceilings") or not any(kind == "floor" for _, kind, _ in rows):
        return []
    entries = []
    for row, kind, model in [*rows, *((name, "ceiling", None) for name in study.ceilings())]:
        files, extra = metrics_files(study, set_name, row), {}
        if model:
            label = study.blocks(model, set_name)["training"].get("label", "")
            weights = _facts(study, model, set_name)["parameters"]
            extra = {"label": label, "trained_on": set_name, "n_weights": weights}
        entries.append(Entry(set_name, row, kind, Measured.load(files.counts, files.particles), **extra))
    return entries


def _facts(study: Study, model: str, set_name: str) -> dict:
    return json.loads(facts_file(study.weights(model, set_name)).read_text(encoding="utf-8"))


def study_record(
    study: Study, table: pd.DataFrame | None, machine: Mapping, collisions: Mapping[str, pd.DataFrame] | None = None
) -> dict:
    """Everything as plain values.

    table: of ``study_table``; machine: device, versions, commit and whatever else the caller knows
    collisions: of ``collision_tables``
    Returns machine, config, samples (manifests), models (facts and SHA-256 of the weights), progress, metrics (rows
    of the table; a missing number is null) and collisions (sample -> rows of its table).
    """
    steps = progress(study)
    models = []
    for one in steps:
        if one.state == "trained":
            path = study.weights(one.model, one.set_name)
            found = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
            models.append({**_facts(study, one.model, one.set_name), "hours": one.hours, "weights": found})
    samples = {}
    for name in ("parents", *study.sets):
        manifest = study.sample(name) / "manifest.json"
        if manifest.exists():
            samples[name] = json.loads(manifest.read_text(encoding="utf-8"))
    samples |= collision_samples(study)
    return {
        **machine,
        "seed": study.seed,
        "config": _plain(study.config),
        "samples": samples,
        "models": models,
        "progress": [asdict(one) for one in steps],
        "metrics": [] if table is None else _plain(table.to_dict("records")),
        "collisions": {name: _plain(rows.to_dict("records")) for name, rows in (collisions or {}).items()},
    }


def _plain(value):
    """Values for JSON: no NaN, no infinity, no numbers of NumPy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def tables_text(
    study: Study, table: pd.DataFrame | None, record: Mapping, collisions: Mapping[str, pd.DataFrame] | None = None
) -> str:
    """Progress of the trainings and the tables as far as there are any, as Markdown. Arguments as of the record."""
    parts = ["## Trainings", progress_text(progress(study))]
    if study.sets and table is None:
        parts.append("No set has its floor and ceilings yet: no table.")
    elif study.sets:
        sample = Sample.load(study.sample(study.sets[0]) / "manifest.json")
        parts.append(first_phase_markdown(table, sample.conditions()).rstrip())
    if study.collisions:
        parts.append(collision_text(study, collisions or {}))
    where = f"device {record['device']}, torch {record['versions'].get('torch', '-')}, commit {record['commit']}"
    parts.append(f"Trained on {where}; seed {study.seed}.")
    return "\n\n".join(parts) + "\n"


def progress_text(steps: list[Progress]) -> str:
    """How far the trainings are, as a Markdown table."""
    rows = []
    for one in steps:
        loss = "-" if one.validation_loss is None else f"{one.validation_loss:.4g} at {one.best_step}"
        minutes = "-" if one.hours is None else f"{60 * one.hours:.1f}"
        rows.append([one.model, one.set_name, one.state, f"{one.steps} of {one.of_steps}", loss, minutes])
    heads = ["Model", "Trained on", "State", "Steps", "Best validation loss", "Minutes"]
    return markdown_table(heads, rows)


def fill_card(template: str, record: Mapping, tables: str) -> str:
    """Fill the template of the model card.

    template: text with the names device, machine, versions, commit, code, seed, title, models, events, simulation,
        tables after dollar signs
    Raises KeyError for a name it does not know.
    """
    models, few = [], record["config"]["subevents"]["sets"]
    for facts in record["models"]:
        trained_on = facts["set"] + (" tracks" if facts["set"] in few else "")
        settings = json.dumps(facts["settings"], sort_keys=True)
        size = f"{facts['parameters']:,} weights, {facts['weights']['bytes'] / 1e6:.1f} MB"
        lines = [
            f"- **{facts['model']}, {trained_on}** (task {facts['task']}): {size};",
            f"{facts['training_events']} training and {facts['validation_events']} validation events;",
            f"{facts['steps']} steps in {60 * facts['hours']:.1f} min on {facts['device']}, best at",
            f"{facts['best_step']} (validation loss {facts['validation_loss']:.4g}).",
            f"SHA-256 {facts['weights']['sha256']}. Settings: `{settings}`",
        ]
        models.append(" ".join(lines))
    simulated = {name: found for name, found in record["samples"].items() if name not in few}
    facts = {
        "title": record["config"]["title"],
        "device": record["device"],
        "machine": ", ".join(f"{name} {value}" for name, value in record["machine"].items()),
        "versions": ", ".join(f"{name} {value}" for name, value in record["versions"].items()),
        "commit": record["commit"],
        "code": record["code"],
        "seed": record["seed"],
        "models": "\n".join(models) or "None is trained yet.",
        "simulation": "; ".join(f"{name}: {_conditions(sample)}" for name, sample in simulated.items()) or "none yet",
        "events": "; ".join(f"{name}: {_splits(sample)}" for name, sample in record["samples"].items()),
        "tables": tables,
    }
    return Template(template).substitute(facts)


def _conditions(manifest: Mapping) -> str:
    known = ("pileup", "hard_process", "sigma_z", "hit_efficiency", "field", "selection_label")
    return ", ".join(f"{name} {manifest.get(name)}" for name in known)


def _splits(manifest: Mapping) -> str:
    counts = manifest["n_events_per_split"]
    return ", ".join(f"{number} {split}" for split, number in counts.items())


def write_out(study: Study, out: Path, record: Mapping, texts: Mapping[str, str]) -> list[Path]:
    """Write what is taken away: texts, the record, and archives of weights.

    texts: file name -> content; the record goes to ``gpu-train.json``, weights, histories and facts of the trained
        models to ``weights-<set>.zip``, one per set of few tracks, and one per model, ``weights-<set>-<model>.zip``,
        for samples of whole events, whose networks are large
    Returns the paths. Few files, as machines that are lent give back few.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(out / name, text)
    write_json(out / "gpu-train.json", record)
    paths = [*(out / name for name in texts), out / "gpu-train.json"]
    archives: dict[str, dict[str, Path]] = {}
    for model, set_name in study.trainings():
        weights = study.weights(model, set_name)
        if weights.exists():
            name = set_name if set_name in study.sets else f"{set_name}-{model}"
            members = (weights, history_file(weights), facts_file(weights))
            archives.setdefault(name, {}).update({f"{model}-{path.name}": path for path in members})
    for name in sorted(archives):
        paths.append(out / f"weights-{name}.zip")
        _pack(paths[-1], archives[name])
    return paths


def too_large(study: Study, paths: list[Path]) -> list[str]:
    """Say which weights or files to take away are larger than they may be."""
    weights = [study.weights(*what) for what in study.trainings()]
    limits = [(path, LARGEST_WEIGHTS) for path in weights if path.exists()] + [(path, LARGEST_FILE) for path in paths]
    return [f"{path}: {size} bytes, more than {most}" for path, most in limits if (size := path.stat().st_size) > most]


def _pack(path: Path, members: Mapping[str, Path]) -> None:
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in members.items():
            member = zipfile.ZipInfo(name, _DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, source.read_bytes(), zipfile.ZIP_DEFLATED)
