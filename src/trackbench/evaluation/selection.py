"""Which particles count: the truth selection that is stored and printed with every result."""

import math
import operator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from trackbench.errors import ConfigError, describe

_OPERATORS = {">=": operator.ge, ">": operator.gt, "<": operator.lt, "<=": operator.le}
# layer_rule -> (column of Truth.particles that is counted, word in the label)
_LAYER_RULES = {
    "volume_layer": ("n_layers", "layers"),
    "layer_id": ("n_layer_ids", "layer_ids"),
    "hits": ("n_hits", "hits"),
}


@dataclass(frozen=True)
class TruthSelection:
    """Cuts on particles (never on hits) that define the targets, and the smallest candidate that counts.

    pt_min: [GeV], compared with pt_operator ">=" (gnn_tracking, HEPTv2) or ">" (MaskFormer)
    eta_max: compared with |eta| of the particle at production by eta_operator "<" or "<="; inf = no cut
    min_layers: smallest number of whatever layer_rule counts: "volume_layer" = distinct
        (volume_id, layer_id), "layer_id" = distinct layer_id (the gnn_tracking rule, which undercounts
        because layer_id repeats across volumes), "hits" = hits
    min_cluster_size: candidates with fewer hits are dropped before any metric that uses this selection
    Raises ConfigError for a value outside these.
    """

    pt_min: float = 0.9
    pt_operator: str = ">="
    eta_max: float = 4.0
    eta_operator: str = "<"
    min_layers: int = 3
    layer_rule: str = "volume_layer"
    min_cluster_size: int = 3

    def __post_init__(self):
        for name, allowed in (
            ("pt_operator", (">=", ">")),
            ("eta_operator", ("<", "<=")),
            ("layer_rule", tuple(_LAYER_RULES)),
        ):
            if getattr(self, name) not in allowed:
                raise _bad(name, getattr(self, name), "one of " + ", ".join(allowed))
        for name in ("pt_min", "eta_max"):
            value = getattr(self, name)
            if not _is_number(value, (int, float)) or math.isnan(value) or value < 0:
                raise _bad(name, value, "a number >= 0")
        for name, smallest in (("min_layers", 0), ("min_cluster_size", 1)):
            value = getattr(self, name)
            if not _is_number(value, int) or value < smallest:
                raise _bad(name, value, f"an integer >= {smallest}")

    def selected(self, particles: pd.DataFrame) -> np.ndarray:
        """Tell which rows of a ``Truth.particles`` table are targets. Returns (n_particles,) bool.

        NaN never passes a cut; noise is not a particle and is not in the table.
        """
        counted = particles[_LAYER_RULES[self.layer_rule][0]].to_numpy() >= self.min_layers
        fast = _OPERATORS[self.pt_operator](particles["pt"].to_numpy(), self.pt_min)
        central = _OPERATORS[self.eta_operator](np.abs(particles["eta"].to_numpy()), self.eta_max)
        return counted & fast & (central | math.isinf(self.eta_max))

    def label(self) -> str:
        """Return the selection in words, e.g. ``pT >= 0.9 GeV, |eta| < 4, >= 3 layers``."""
        parts = [f"pT {self.pt_operator} {self.pt_min:g} GeV"]
        if not math.isinf(self.eta_max):
            parts.append(f"|eta| {self.eta_operator} {self.eta_max:g}")
        parts.append(f">= {self.min_layers} {_LAYER_RULES[self.layer_rule][1]}")
        if self.min_cluster_size != 3:  # 3 is what everybody uses: only a departure is worth the space
            parts.append(f"candidates >= {self.min_cluster_size} hits")
        return ", ".join(parts)

    def as_dict(self) -> dict:
        """Return the fields as plain values, for manifests; no cut in eta is None, as JSON has no infinity."""
        return asdict(self) | {"eta_max": None if math.isinf(self.eta_max) else self.eta_max}


def _is_number(value: object, kinds: type | tuple) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _bad(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(describe(f"selection.{name}", f"value {value!r} is not allowed", expected))
