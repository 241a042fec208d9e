"""What a study consists of and where its files are: a checked configuration and a folder laid out as that of a run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trackbench.ceilings import CEILINGS
from trackbench.collisions import first_event, simulation_of
from trackbench.data.prepare import DataSelection
from trackbench.data.subevents import SubeventConfig
from trackbench.derived_sets import origin_of, truth_filter_of
from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import write_json
from trackbench.learning_config import FLOOR, block_of, model_settings, rows_of_set, set_range
from trackbench.simulation.config import SimulationConfig

FIRST_EVENT = 20_000_001  # parents are numbered as in the workflow
_DATA = "data.json"


@dataclass(frozen=True)
class Study:
    """A study and its files.

    config: of the workflow, as ``trackbench.config.check_config`` returns it; its blocks subevents, collisions and
        models are done
    folder: laid out as ``results/<run>`` of the workflow (docs/architecture.md)
    device: "auto", "cpu" or "cuda", of trainings and trackers
    """

    config: Mapping
    folder: Path
    device: str = "auto"

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.config["seed"]

    @property
    def events(self) -> dict[str, int]:
        """Parents per split."""
        return self.config["subevents"]["parents"]["events"]

    @property
    def shard_events(self) -> int:
        """Parents per shard."""
        return self.config["subevents"]["parents"]["shard_events"]

    @property
    def simulation(self) -> SimulationConfig:
        """How parents are simulated."""
        changes = self.config["subevents"]["parents"]["simulate"]
        return SimulationConfig(**{**self.config["data"]["simulate"], **changes, "seed": self.seed})

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the data sets of few tracks, such as "10-50"."""
        return tuple(self.config["subevents"]["sets"])

    @property
    def collisions(self) -> tuple[str, ...]:
        """Names of the samples of whole events."""
        return tuple(self.config["collisions"]["sets"])

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of them that are simulated; the others are prepared from the same events."""
        return tuple(name for name in self.collisions if origin_of(self.config, name) == name)

    def prepared_with(self, origin: str) -> list[str]:
        """A simulated sample of whole events and those derived from it."""
        return [name for name in self.collisions if origin_of(self.config, name) == origin]

    def collision_simulation(self, set_name: str) -> SimulationConfig:
        """How the events of a sample of whole events are simulated."""
        cells = {"cells": True} if self.config["data"]["cells"] else {}
        return SimulationConfig(**{**simulation_of(self.config, set_name), **cells, "seed": self.seed})

    def collision_shards(self, set_name: str) -> list[str]:
        """Names of the shards of a sample of whole events."""
        block = self.config["collisions"]["sets"][set_name]
        return [f"{k:04d}" for k in range(-(-sum(block["events"].values()) // block["shard_events"]))]

    def collision_numbers(self, set_name: str, shard: str) -> list[int]:
        """Event numbers of a shard, as in the workflow."""
        block, begin = self.config["collisions"]["sets"][set_name], first_event(self.config, set_name)
        first, size = int(shard) * block["shard_events"], block["shard_events"]
        return list(range(begin + first, begin + min(first + size, sum(block["events"].values()))))

    def hit_selection(self, set_name: str) -> DataSelection:
        """Hits that are kept of the events of a sample of whole events."""
        data = self.config["data"]
        kept = {key: data[key] for key in ("detector", "hit_eta_max", "cells")}
        return DataSelection(**kept, truth_filter=truth_filter_of(self.config, set_name))

    def cut(self, set_name: str) -> SubeventConfig:
        """How sub-events of a set are cut."""
        low, high = set_range(set_name)
        return SubeventConfig(low=low, high=high, **self.config["subevents"]["sets"][set_name], seed=self.seed)

    def shards(self) -> list[str]:
        """Names of the shards, "0000", "0001", ..."""
        return [f"{k:04d}" for k in range(-(-sum(self.events.values()) // self.shard_events))]

    def event_numbers(self, shard: str) -> list[int]:
        """Event numbers of the parents of a shard."""
        first = int(shard) * self.shard_events
        last = min(first + self.shard_events, sum(self.events.values()))
        return list(range(FIRST_EVENT + first, FIRST_EVENT + last))

    def sample(self, name: str) -> Path:
        """Folder of a prepared sample: "parents", the name of a set, or that of a sample of whole events."""
        return self.folder / "prepared" / (f"tracks-{name}" if name in self.sets else name)

    def is_there(self, name: str) -> bool:
        """Whether a sample is complete; its manifest is written last."""
        return (self.sample(name) / "manifest.json").exists()

    def trainings(self) -> list[tuple[str, str]]:
        """Models and sets in the order in which they are trained: as the configuration lists them."""
        models = self.config["models"]
        return [(model, set_name) for model in models for set_name in models[model]["sets"]]

    def weights(self, model: str, set_name: str) -> Path:
        """Weights file of a model trained on a set; history and facts lie beside it."""
        return self.folder / "models" / model / f"{set_name}.pt"

    def blocks(self, model: str, set_name: str) -> dict[str, dict]:
        """Settings of a training, device included."""
        blocks = model_settings(self.config, model, set_name)
        return {**blocks, "training": {**blocks["training"], "device": self.device}}

    def rows(self, set_name: str) -> Iterator[tuple[str, str, str | None]]:
        """Rows of a set that trackers make: name, kind of ``evaluation.trackformers.KINDS`` and model, if any."""
        for row in rows_of_set(self.config, set_name):
            model = self.config[block_of(self.config, set_name)]["trackers"][row]["model"]
            yield row, "trained" if model else "floor" if row == FLOOR else "untrained", model

    def ceilings(self) -> tuple[str, ...]:
        """Rows made with the truth, the same for every set."""
        return CEILINGS

    def claim(self) -> None:
        """Remember in the folder which events it holds.

        Raises ConfigError if it holds others, InputError if that cannot be read.
        """
        wanted = {
            "seed": self.seed,
            "parents": dict(self.config["subevents"]["parents"]),
            "simulate": dict(self.config["data"]["simulate"]),
            "sets": dict(self.config["subevents"]["sets"]),
        }
        if self.collisions:  # folders of studies without any do not say so
            wanted["collisions"] = {name: self._events_of(name) for name in self.collisions}
            wanted["selection"] = dict(self.config["selection"])
        path = self.folder / _DATA
        if not path.exists():
            write_json(path, wanted)
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(describe(path, "cannot be read", "what the folder holds", "remove the folder")) from error
        if found != wanted:
            different = ", ".join(sorted(key for key in wanted if found.get(key) != wanted[key]))
            remedy = f"remove {self.folder} or give another folder"
            raise ConfigError(describe(path, f"events of another configuration ({different})", "the same", remedy))

    def _events_of(self, set_name: str) -> dict:
        """What decides the events of a sample of whole events, as plain values."""
        block = self.config["collisions"]["sets"][set_name]
        sizes = {key: block[key] for key in ("events", "shard_events", "simulate")}
        first = first_event(self.config, origin_of(self.config, set_name))
        return {**sizes, "first_event": first, "hits": self.hit_selection(set_name).as_dict()}


def read_study(config_file: Path, schema_file: Path, folder: Path, device: str = "auto") -> Study:
    """Read and check a configuration. The study lies in ``folder/<run>``. Raises ConfigError.

    Samples of whole events have to be simulated, or derived from such a one.
    """
    import yaml

    from trackbench.config import check_config, read_schema

    try:
        content = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(describe(config_file, "cannot be read", "a configuration in YAML")) from error
    if not isinstance(content, dict):
        raise ConfigError(describe(config_file, f"holds {str(content)[:40]!r}", "a configuration in YAML"))
    config = check_config(content, read_schema(schema_file))
    for name in config["collisions"]["sets"]:
        source = config["collisions"]["sets"][origin_of(config, name)]["source"]
        if source != "simulate":
            raise ConfigError(describe(f"config key collisions.sets.{name}.source", f"value '{source}'", "simulate"))
    return Study(config, Path(folder) / config["run"], device)
