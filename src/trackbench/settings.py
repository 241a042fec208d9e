"""Build frozen dataclasses of settings from the plain values of a configuration: unknown keys and wrong types fail."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping

from trackbench.errors import ConfigError, describe


def build_dataclass(cls: type, where: str, values: Mapping | None = None):
    """Return ``cls(**values)`` after checking names and types.

    cls: dataclass whose fields are bool, int, float or str
    where: what the values belong to, such as "trackers.dbscan" or "network"; starts the messages
    values: field -> value; an int is taken for a float
    Raises ConfigError for an unknown key or a value of another type. Ranges are checked by ``__post_init__``.
    """
    fields = [field.name for field in dataclasses.fields(cls)]
    types = typing.get_type_hints(cls)
    checked = {}
    for key, value in (values or {}).items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            remedy = f"did you mean '{close[0]}'?" if close else ""
            raise ConfigError(describe(f"{where}.{key}", "unknown key", ", ".join(fields) or "no keys", remedy))
        checked[key] = _coerce(f"{where}.{key}", value, types[key])
    return cls(**checked)


def _coerce(where: str, value, kind: type):
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = f"{'an' if kind is int else 'a'} {kind.__name__}"
        raise ConfigError(describe(where, f"value {value!r} is a {type(value).__name__}", expected))
    return value
