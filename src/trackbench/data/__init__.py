"""Reading, checking and preparing TrackML events."""

import importlib

# Loaded on first use, so that importing the package stays light.
_LAZY = {"read_event": "reader", "iter_dataset": "reader", "list_events": "reader"}

__all__ = ["iter_dataset", "list_events", "read_event"]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(f"trackbench.data.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
