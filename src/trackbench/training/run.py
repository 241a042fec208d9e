"""Train one model on one prepared sample: settings, streams, loop, and the three files that are kept."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import write_json, write_text
from trackbench.memory import keep_free_memory
from trackbench.settings import build_dataclass
from trackbench.training.checkpoint import RunFolder, config_hash
from trackbench.training.config import TrainingConfig, settings_classes
from trackbench.training.loop import TrainedModel, Trainer
from trackbench.training.stream import EventStream
from trackbench.training.tasks import Task, make_task


@dataclass(frozen=True)
class TrainingJob:
    """What to train.

    kind: of task, one of ``training.config.TASKS``
    blocks: "network", "loss" and "training" -> settings, as the configuration gives them; what is left out has its
        default
    seed: of everything random; threads: used by PyTorch
    model, set_name: names shown with the results; code: digest of the code, if the caller knows it
    """

    kind: str
    blocks: Mapping[str, Mapping] = field(default_factory=dict)
    seed: int = 0
    threads: int = 1
    model: str = ""
    set_name: str = ""
    code: str = ""


@dataclass(frozen=True)
class TrainingFiles:
    """Where it goes: the weights a tracker loads (.pt), history of the losses (.csv), facts (.json).

    folder: of the resumable state while training, and of what is needed to write the files again afterwards
    """

    weights: str | os.PathLike
    history: str | os.PathLike
    facts: str | os.PathLike
    folder: str | os.PathLike


def train_model(index: str | os.PathLike, manifest: str | os.PathLike, job: TrainingJob, files: TrainingFiles) -> dict:
    """Train on the training split of a prepared sample, or go on where an earlier call was stopped.

    index, manifest: of the sample; its validation split decides which weights are kept
    Returns what the facts file holds. The weights file has the part of it that two equal trainings share; "length" is
    the padded length of the sample, the most hits an event of the training may have, None = any number.
    A training of the same configuration that is finished is not done again: its files are written once more, equal
    byte for byte; to train anew, remove the folder. One of another configuration is not in the way if its files are
    gone.
    Raises ConfigError for unknown or wrong settings and for a state or weights of others, InputError for a damaged
    sample or state, an event longer than the padded length or a folder in use, TrackbenchError for a loss that is not
    finite, Stopped when a signal stops the training.
    """
    settings = build_settings(job.kind, job.blocks)
    task = make_task(job.kind, settings["network"], settings["loss"])
    config = settings["training"]
    torch.set_num_threads(job.threads)
    sample = _sample(manifest)
    streams = [
        EventStream(index, split, config.batch_size, job.seed, config.shard_buffer, sample["length"])
        for split in ("train", "val")
    ]
    identity = _identity(job, settings, sample["sha256"], streams)
    _refuse_other(files, identity)
    with keep_free_memory(), RunFolder(files.folder, identity, (files.weights, files.history, files.facts)) as run:
        model = Trainer(task, *streams, config, run).train()
        facts = {**_facts(job, config, model, streams), "length": sample["length"], **_origin(identity)}
        facts = _write(task, model, facts, job, files)
        run.finish()
    return facts


def build_settings(kind: str, blocks: Mapping[str, Mapping]) -> dict:
    """Return block -> its dataclass. Raises ConfigError for an unknown task, block or key, or a wrong value."""
    classes = settings_classes(kind)
    unknown = sorted(set(blocks) - set(classes))
    if unknown:
        raise ConfigError(describe(f"training settings: {unknown[0]}", "unknown block", ", ".join(classes)))
    return {name: build_dataclass(cls, name, blocks.get(name)) for name, cls in classes.items()}


def _identity(job: TrainingJob, settings: dict, data: str, streams: list[EventStream]) -> dict:
    """Everything that decides the result; a state is refused if any of it changed."""
    identity = {"task": job.kind, "seed": job.seed, "code": job.code, "data": data}
    identity |= {name: asdict(value) for name, value in settings.items()}
    return identity | {"events": {stream.split: stream.digest for stream in streams}}


def _sample(manifest: str | os.PathLike) -> dict:
    """Digest of the data and padded length of a prepared sample; the length is None if it is not one of sub-events."""
    try:
        content = json.loads(Path(manifest).read_text(encoding="utf-8"))
        sha256, length = content["sha256"], content.get("subevents", {}).get("length")
        if length is not None and (type(length) is not int or length < 1):
            raise ValueError(f"subevents.length is {length!r}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"cannot be read ({type(error).__name__}: {error})"
        raise InputError(describe(manifest, what, "the manifest of a prepared sample", "prepare it again")) from error
    return {"sha256": sha256, "length": length}


def _origin(identity: dict) -> dict:
    return {"data_sha256": identity["data"], "config_hash": config_hash(identity)}


def _refuse_other(files: TrainingFiles, identity: dict) -> None:
    """Raise ConfigError if finished weights of another configuration would be lost. Without readable facts: of none."""
    if not Path(files.weights).exists():
        return
    try:
        found = json.loads(Path(files.facts).read_text(encoding="utf-8"))["config_hash"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if found != config_hash(identity):
        what = f"holds weights of another configuration, see {files.facts}"
        remedy = "choose another file, or remove this one to train it anew"
        raise ConfigError(describe(files.weights, what, "none, or those of the same settings, seed and data", remedy))


def _facts(job: TrainingJob, config: TrainingConfig, model: TrainedModel, streams: list[EventStream]) -> dict:
    """What two equal trainings have in common."""
    return {
        "model": job.model,
        "set": job.set_name,
        "task": job.kind,
        "label": config.label,
        "seed": job.seed,
        "steps": model.steps,
        "best_step": model.best_step,
        "validation_loss": model.best_loss,
        "training_events": streams[0].n_events,
        "validation_events": streams[1].n_events,
        "parameters": model.parameters,
    }


def _write(task: Task, model: TrainedModel, facts: dict, job: TrainingJob, files: TrainingFiles) -> dict:
    task.save(files.weights, model.network, facts)
    write_text(files.history, model.history.to_csv(index=False, lineterminator="\n"))
    last = {name: model.sittings[-1][name] for name in ("device", "threads", "machine", "versions")}
    settings = {name: dict(values) for name, values in job.blocks.items()}
    measured = {**last, "sittings": model.sittings, "seconds": round(model.seconds, 3), "settings": settings}
    write_json(files.facts, {**facts, **measured})
    return {**facts, **measured}
