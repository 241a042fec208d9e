"""Where the tests find weights for learned trackers; ``train_toy_weights.py`` makes them."""

import dataclasses
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "weights"


def settings_of(config):
    """Settings with which a tracker runs in tests: its toy weights, if it needs any. config: its class ``Config``."""
    if "checkpoint" not in {field.name for field in dataclasses.fields(config)}:
        return {}
    return {"checkpoint": str(FOLDER / f"{config.__module__.rpartition('.')[2]}.pt"), "device": "cpu"}
