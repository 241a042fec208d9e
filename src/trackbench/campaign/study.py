"""What a study consists of and where its files are: a checked configuration and a folder laid out as that of a run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trackbench.ceilings import CEILINGS
from trackbench.data.subevents import SubeventConfig
from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import write_json
from trackbench.learning_config import FLOOR, model_settings, rows_of_set, set_range
from trackbench.simulation.config import SimulationConfig

FIRST_EVENT = 20_000_001  # parents are numbered as in the workflow
_DATA = "data.json"


@dataclass(frozen=True)
class Study:
    """A study and its files.

    config: of the workflow, as ``trackbench.config.check_config`` returns it; its blocks subevents and models are done
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
        """Names of the data sets, such as "10-50"."""
        return tuple(self.config["subevents"]["sets"])

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
        """Folder of a prepared sample: "parents" or the name of a set."""
        return self.folder / "prepared" / ("parents" if name == "parents" else f"tracks-{name}")

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
            model = self.config["subevents"]["trackers"][row]["model"]
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


def read_study(config_file: Path, schema_file: Path, folder: Path, device: str = "auto") -> Study:
    """Read and check a configuration. The study lies in ``folder/<run>``. Raises ConfigError."""
    import yaml

    from trackbench.config import check_config, read_schema

    try:
        content = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(describe(config_file, "cannot be read", "a configuration in YAML")) from error
    if not isinstance(content, dict):
        raise ConfigError(describe(config_file, f"holds {str(content)[:40]!r}", "a configuration in YAML"))
    config = check_config(content, read_schema(schema_file))
    return Study(config, Path(folder) / config["run"], device)
