"""Train the models of a study one after the other until time is up; the next call goes on."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trackbench.campaign.study import Study
from trackbench.campaign.workers import Clock
from trackbench.errors import ConfigError, Stopped, TrackbenchError, describe
from trackbench.training.deadline import stop_after

log = logging.getLogger(__name__)

SHORTEST_S = 5.0  # no training is begun or resumed for less

STATES = ("trained", "in training", "not begun")


@dataclass(frozen=True)
class Progress:
    """How far one training is.

    state: one of ``STATES``; steps: done, of ``of_steps``; best_step, validation_loss: of the best validation, None
    before the first; hours: of training, None where not known
    """

    model: str
    set_name: str
    state: str
    steps: int
    of_steps: int
    best_step: int | None = None
    validation_loss: float | None = None
    hours: float | None = None


def train_models(
    study: Study,
    clock: Clock,
    threads: int,
    code: str,
    trained: Callable[[], None],
    wait: Callable[[str, Clock], bool] | None = None,
) -> bool:
    """Train what is not trained, in the order of the configuration.

    clock: a training is stopped, with its state saved, when it is over; threads: of PyTorch and NumPy
    code: digest of the code; trained: called after each training
    wait: waits for the sample of a set until the clock is over, and says whether it is there; None = all are
    Returns whether all models are trained. A training that fails does not keep the others from being trained; in the
    end TrackbenchError says which failed. Raises Stopped when a signal stops a training, which has then been saved;
    ConfigError if the weights that are there have other settings.
    """
    failed = []
    for model, set_name in study.trainings():
        if study.weights(model, set_name).exists():
            check_settings(study, model, set_name)
            continue
        if wait is not None and not wait(set_name, clock):
            return False
        try:
            if clock.left() < SHORTEST_S or not _train(study, (model, set_name), clock, threads, code):
                return False
        except Stopped:
            raise
        except (TrackbenchError, RuntimeError) as error:  # RuntimeError: memory of the device
            log.error("training %s on %s failed: %s", model, set_name, error)
            failed.append(f"{model} on {set_name} ({error})")
            continue
        trained()
    if failed:
        raise TrackbenchError(describe("trainings", "failed: " + "; ".join(failed)))
    return True


def _train(study: Study, what: tuple[str, str], clock: Clock, threads: int, code: str) -> bool:
    """Train one model on one set. Returns False if the time was over first."""
    from trackbench.training.run import TrainingFiles, TrainingJob, train_model

    model, set_name = what
    path = study.weights(model, set_name)
    task = study.config["models"][model]["task"]
    job = TrainingJob(task, study.blocks(model, set_name), study.seed, threads, model, set_name, code)
    files = TrainingFiles(path, history_file(path), facts_file(path), _state_folder(path))
    index = study.sample(set_name) / "index.csv"
    log.info("training %s on %s", model, set_name)
    with stop_after(clock.left()) as deadline:
        try:
            train_model(index, index.with_name("manifest.json"), job, files)
        except Stopped as error:
            if not deadline.reached:
                raise
            log.info("time is over: %s", error)
            return False
    return True


def check_settings(study: Study, model: str, set_name: str) -> None:
    """Raise ConfigError if the model was trained with other settings than the configuration has now."""
    path = facts_file(study.weights(model, set_name))
    found = json.loads(path.read_text(encoding="utf-8"))["settings"]
    for block, wanted in study.blocks(model, set_name).items():
        if found.get(block) != wanted:
            remedy = f"remove {path.parent} to train again, or go back to the settings it was trained with"
            raise ConfigError(describe(path, f"trained with other settings of {block}", "those asked for", remedy))


def progress(study: Study) -> list[Progress]:
    """How far all trainings are, in their order."""
    return [_progress(study, model, set_name) for model, set_name in study.trainings()]


def _progress(study: Study, model: str, set_name: str) -> Progress:
    from trackbench.training.checkpoint import FINISHED, HISTORY, PREVIOUS, STATE
    from trackbench.training.config import TrainingConfig

    path, of_steps = study.weights(model, set_name), TrainingConfig(**study.blocks(model, set_name)["training"]).steps
    if path.exists():
        facts = json.loads(facts_file(path).read_text(encoding="utf-8"))
        values = facts["steps"], of_steps, facts["best_step"], facts["validation_loss"], facts["seconds"] / 3600
        return Progress(model, set_name, "trained", *values)
    folder = _state_folder(path)
    if not any((folder / name).exists() for name in (STATE, PREVIOUS, FINISHED)):
        return Progress(model, set_name, "not begun", 0, of_steps)
    history = _read_history(folder / HISTORY)
    if history.empty:
        return Progress(model, set_name, "in training", 0, of_steps)
    best, last = history.loc[history["val_total"].idxmin()], history.iloc[-1]
    values = int(last["step"]), of_steps, int(best["step"]), float(best["val_total"]), float(last["seconds"]) / 3600
    return Progress(model, set_name, "in training", *values)


def _read_history(path: Path) -> pd.DataFrame:
    """History so far, a row per validation; no rows before the first."""
    try:
        return pd.read_csv(path)
    except (OSError, pd.errors.EmptyDataError):
        return pd.DataFrame()


def facts_file(weights: Path) -> Path:
    """The facts beside a weights file."""
    return _beside(weights, "facts.json")


def history_file(weights: Path) -> Path:
    """The history of losses beside a weights file."""
    return _beside(weights, "history.csv")


def _beside(weights: Path, ending: str) -> Path:
    return weights.with_name(f"{weights.stem}-{ending}")


def _state_folder(weights: Path) -> Path:
    return weights.with_suffix(".training")
