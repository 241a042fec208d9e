"""Metrics, intervals, matching and latency: sees only labels and truth columns."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackbench.data.weights import hit_weights
    from trackbench.evaluation.metrics import EventResult, evaluate_event
    from trackbench.evaluation.score import trackml_score
    from trackbench.evaluation.selection import TruthSelection

# Public name -> module; resolved on first use so that importing one part does not load the others.
_PUBLIC = {
    "EventResult": "trackbench.evaluation.metrics",
    "TruthSelection": "trackbench.evaluation.selection",
    "evaluate_event": "trackbench.evaluation.metrics",
    "hit_weights": "trackbench.data.weights",
    "trackml_score": "trackbench.evaluation.score",
}
__all__ = ["EventResult", "TruthSelection", "evaluate_event", "hit_weights", "trackml_score"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
