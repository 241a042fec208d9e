"""Classes of EncCla: quantile bins of phi, theta and |p| and the two charges.

Source: class order of TrackFormers-Models (EncCla). Differs from it in: no class for padding, which is masked; edges
are fitted on training events only and stored with the weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.training.targets import Momenta, hit_momenta, of_hits

QUANTITIES = ("phi", "theta", "p")


@dataclass(frozen=True)
class QuantileBins:
    """Inner edges of the bins; bins at the ends are open.

    phi: n_phi - 1 edges [rad], in (-pi, pi]; theta: n_theta - 1 edges [rad]; p: n_p - 1 edges of |p| [GeV]
    A value on an edge is in the lower bin. Equal edges are allowed, as a value shared by many hits gives; the
    bins between them stay empty and the number of classes is what was asked for.
    """

    phi: tuple[float, ...]
    theta: tuple[float, ...]
    p: tuple[float, ...]

    def __post_init__(self):
        for name in QUANTITIES:
            edges = getattr(self, name)
            if not np.isfinite(edges).all() or any(low > high for low, high in pairwise(edges)):
                raise InputError(describe(f"bins.{name}", "edges", "finite numbers that never fall"))

    @classmethod
    def fit(cls, truths: Iterable[Truth], n_phi: int, n_theta: int, n_p: int) -> "QuantileBins":
        """Choose edges that put about equally many hits into each bin of a quantity.

        truths: truth of the training events, read once; what stays in memory is four numbers per particle
            with hits: its phi, theta, |p| and how many hits it has
        n_phi, n_theta, n_p: numbers of bins, >= 1
        Edges are values that occur: the smallest with at least the wanted share of hits at or below it.
        Raises InputError if there is no hit of a particle, or one of a neutral particle.
        """
        return cls.fit_all(truths, [(n_phi, n_theta, n_p)])[0]

    @classmethod
    def fit_all(cls, truths: Iterable[Truth], counts: Sequence[tuple[int, int, int]]) -> "list[QuantileBins]":
        """The bins of ``fit`` for several ``counts`` (n_phi, n_theta, n_p), from one reading of the events."""
        for name, n in ((name, n) for numbers in counts for name, n in zip(QUANTITIES, numbers, strict=True)):
            if n < 1:
                raise ConfigError(describe(f"loss.n_{name}", f"value {n}", ">= 1"))
        parts = [_values_of_particles(truth) for truth in truths]
        values = np.concatenate([part[0] for part in parts], axis=1) if parts else np.empty((3, 0))
        if not values.size:
            raise InputError(describe("bins of the classes", "no hit of a particle", "training events with tracks"))
        hits = np.concatenate([part[1] for part in parts])
        return [cls(*(_edges(value, hits, n) for value, n in zip(values, numbers, strict=True))) for numbers in counts]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of bins of phi, theta and |p|."""
        return len(self.phi) + 1, len(self.theta) + 1, len(self.p) + 1

    @property
    def n_classes(self) -> int:
        """Number of classes, with the two charges."""
        return 2 * int(np.prod(self.shape))

    def classes(self, truth: Truth) -> np.ndarray:
        """Class of each hit: ((c n_phi + phi bin) n_theta + theta bin) n_p + |p| bin; c = 0 for q < 0, 1 for q > 0.

        Returns (n,) int64 in 0 ... n_classes - 1, -1 = noise. Raises InputError for hits of neutral particles.
        """
        momenta, number = hit_momenta(truth)
        return of_hits(self.classes_of(momenta), number, -1)

    def classes_of(self, momenta: Momenta) -> np.ndarray:
        """Class of each particle. Returns (m,) int64."""
        label = (momenta.q > 0).astype(np.int64)
        for name, n in zip(QUANTITIES, self.shape, strict=True):
            label = label * n + np.searchsorted(getattr(self, name), getattr(momenta, name))
        return label

    def as_dict(self) -> dict[str, list[float]]:
        """Return the edges as plain values, for checkpoints."""
        return {name: [float(edge) for edge in getattr(self, name)] for name in QUANTITIES}

    @classmethod
    def from_dict(cls, values: dict[str, list[float]]) -> "QuantileBins":
        """Rebuild from ``as_dict``. Raises InputError if it is not what that gives."""
        if not isinstance(values, dict) or set(values) != set(QUANTITIES):
            raise InputError(describe("bins", f"value {values!r:.80}", "edges of " + ", ".join(QUANTITIES)))
        return cls(**{name: tuple(float(edge) for edge in values[name]) for name in QUANTITIES})


def _values_of_particles(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """phi, theta, |p| (3, m) and number of hits (m,) of the particles with hits."""
    momenta, number = hit_momenta(truth)
    return np.stack([getattr(momenta, name) for name in QUANTITIES]), np.bincount(number[number >= 0])


def _edges(values: np.ndarray, hits: np.ndarray, n: int) -> tuple[float, ...]:
    shares = np.arange(1, n) / n
    return tuple(np.quantile(values, shares, weights=hits, method="inverted_cdf").tolist())
