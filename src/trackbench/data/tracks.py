"""What a tracker returns: a label per hit and, if it fits its candidates, their track parameters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe

# At the point of closest approach to the beam line (the z axis), the perigee. d0 [mm] is positive if the
# beam line's direction, the track's direction and the perigee satisfy (z x p) . r > 0, the sign of ACTS;
# z0 [mm]; phi [rad] in (-pi, pi] and theta [rad] of the momentum there; q_over_pt [1/GeV].
PARAMETERS = ("d0", "z0", "phi", "theta", "q_over_pt")
_PAIRS = tuple((i, j) for i in range(5) for j in range(i, 5))
_COVARIANCE = tuple(f"cov_{PARAMETERS[i]}_{PARAMETERS[j]}" for i, j in _PAIRS)
PARAMETER_COLUMNS = ("event_id", "track_id", *PARAMETERS, *_COVARIANCE, "chi2", "n_dof", "n_holes")
_ARRAYS = ("values", "covariance", "chi2", "n_dof", "n_holes")


@dataclass(frozen=True)
class TrackParameters:
    """Fitted parameters of m track candidates; row i belongs to label i.

    values: (m, 5) float64, in the order of ``PARAMETERS``
    covariance: (m, 5, 5) float64
    chi2: (m,) float64, of the fit; n_dof: (m,) int64, its degrees of freedom
    n_holes: (m,) int64, layers crossed between the first and the last hit without a hit; -1 = not counted
    """

    values: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    n_dof: np.ndarray
    n_holes: np.ndarray

    def __post_init__(self):
        m = len(self.values)
        shapes = {"values": (m, 5), "covariance": (m, 5, 5), "chi2": (m,), "n_dof": (m,), "n_holes": (m,)}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                found = np.shape(getattr(self, name))
                raise InputError(describe(f"TrackParameters.{name}", f"shape {found}", str(shape)))

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def empty(cls) -> "TrackParameters":
        """Return the parameters of no candidate: m = 0."""
        return cls.concatenate([])

    @classmethod
    def concatenate(cls, parts: Sequence["TrackParameters"]) -> "TrackParameters":
        """Join the candidates of several fits, in the order given."""
        nothing = cls(np.empty((0, 5)), np.empty((0, 5, 5)), np.empty(0), *np.empty((2, 0), dtype=np.int64))
        return cls(*(np.concatenate([getattr(part, name) for part in (nothing, *parts)]) for name in _ARRAYS))

    @property
    def pt(self) -> np.ndarray:
        """(m,) transverse momentum of a particle of unit charge [GeV]."""
        return 1.0 / np.maximum(np.abs(self.values[:, 4]), 1e-9)

    def take(self, rows: np.ndarray) -> "TrackParameters":
        """Return the candidates at ``rows``: (k,) int positions or (m,) bool mask."""
        return TrackParameters(*(getattr(self, name)[rows] for name in _ARRAYS))

    def equals(self, other: "TrackParameters") -> bool:
        """Tell whether all numbers are the same, NaN included."""
        return all(np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in _ARRAYS)

    def to_frame(self, event_id: int) -> pd.DataFrame:
        """Return a table with ``PARAMETER_COLUMNS``, one row per candidate, track_id = row.

        event_id, track_id, n_dof and n_holes are int64, all others float64.
        """
        m = len(self)
        columns = {"event_id": np.full(m, event_id, dtype=np.int64), "track_id": np.arange(m, dtype=np.int64)}
        numbers = {name: self.values[:, i] for i, name in enumerate(PARAMETERS)}
        numbers |= {name: self.covariance[:, i, j] for name, (i, j) in zip(_COVARIANCE, _PAIRS, strict=True)}
        numbers["chi2"] = self.chi2
        columns |= {name: values.astype(np.float64) for name, values in numbers.items()}
        columns |= {name: getattr(self, name).astype(np.int64) for name in ("n_dof", "n_holes")}
        return pd.DataFrame(columns)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "TrackParameters":
        """Build from the rows of one event of a table with ``PARAMETER_COLUMNS``, in ascending track_id.

        Raises InputError if a column is missing or track_id is not 0, 1, ..., m - 1.
        """
        missing = [name for name in PARAMETER_COLUMNS if name not in frame]
        if missing:
            raise InputError(describe("track parameters", f"no column {missing[0]}", ", ".join(PARAMETER_COLUMNS)))
        if not np.array_equal(frame["track_id"], np.arange(len(frame))):
            raise InputError(
                describe("track parameters", "track_id is not consecutive", "0, 1, ... in ascending order")
            )
        covariance = np.empty((len(frame), 5, 5))
        for name, (i, j) in zip(_COVARIANCE, _PAIRS, strict=True):
            covariance[:, i, j] = covariance[:, j, i] = frame[name].to_numpy(np.float64)
        integers = (frame[name].to_numpy(np.int64) for name in ("n_dof", "n_holes"))
        return cls(
            frame[list(PARAMETERS)].to_numpy(np.float64), covariance, frame["chi2"].to_numpy(np.float64), *integers
        )


@dataclass(frozen=True)
class Tracks:
    """The track candidates of one event.

    labels: (n,) int64, one per hit, -1 = unassigned
    parameters: row i belongs to label i; None if the tracker does not fit its candidates
    """

    labels: np.ndarray
    parameters: TrackParameters | None = None

    def equals(self, other: "Tracks") -> bool:
        """Tell whether labels and parameters are the same, numbering of the candidates included."""
        if self.parameters is None or other.parameters is None:
            same = self.parameters is other.parameters
        else:
            same = self.parameters.equals(other.parameters)
        return same and np.array_equal(self.labels, other.labels)
