"""Samples of whole events that are another such sample prepared once more: the same events, other hits of them.

``collisions.sets.<name>.source`` then names that sample, its *origin*, which gives events, splits and, unless a model
is trained on the derived sample itself, trained weights with their tuned settings. Its use is ``truth_filter``:
results with noise kept beside those with hits removed by truth, as in the data of HEPTv2 (arXiv:2606.20437).
Light on purpose, like ``learning_config``.
"""

from collections.abc import Mapping

from trackbench.errors import ConfigError, describe

SOURCES = ("simulate", "data")
_INHERITED = {"events": {"train": 0, "val": 0, "test": 0}, "shard_events": 20, "simulate": {}}  # name -> if not given


def origin_of(config: Mapping, set_name: str) -> str:
    """Sample whose raw events a sample is prepared from: itself unless it is derived. Any name of a sample will do."""
    sets = config["collisions"]["sets"]
    source = sets[set_name]["source"] if set_name in sets else None
    return set_name if source in (None, *SOURCES) else source


def truth_filter_of(config: Mapping, set_name: str) -> bool:
    """Whether hits of a sample of whole events are removed by truth: its own word, or that of ``data``."""
    wanted = config["collisions"]["sets"][set_name]["truth_filter"]
    return config["data"]["truth_filter"] if wanted is None else wanted


def weights_set(config: Mapping, model: str, set_name: str) -> str | None:
    """Set whose trained weights of a model are used on a set: itself, else its origin, None if it is in neither."""
    trained = config["models"][model]["sets"]
    return next((name for name in (set_name, origin_of(config, set_name)) if name in trained), None)


def complete_derived(config: dict) -> None:
    """Give derived samples the events of their origin, in place.

    config: complete but for that
    Raises ConfigError for a source that is none, an origin that is derived itself, a name that is a source, and for
    events, shard_events and simulate that are given and are not those of the origin.
    """
    sets = config["collisions"]["sets"]
    for name, block in sets.items():
        where = f"config key collisions.sets.{name}"
        if name in SOURCES:
            raise ConfigError(describe(where, "name of a source", f"none of {', '.join(SOURCES)}"))
        if block["source"] in SOURCES:
            continue
        origins = [other for other in sets if other != name and sets[other]["source"] in SOURCES]
        if block["source"] not in origins:
            expected = "one of " + ", ".join((*SOURCES, *origins))
            raise ConfigError(describe(f"{where}.source", f"value '{block['source']}'", expected))
        origin = sets[block["source"]]
        for key, default in _INHERITED.items():
            if block[key] not in (default, origin[key]):
                what, remedy = f"not that of {block['source']}, whose events these are", "leave it out"
                raise ConfigError(describe(f"{where}.{key}", what, str(origin[key]), remedy))
            block[key] = origin[key]
