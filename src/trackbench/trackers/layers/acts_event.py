"""Hits of an event as ACTS measurements, and tracks of ACTS as labels and parameters.

ACTS algorithms are run one after the other on a white board; there is no sequencer, so that stages can be timed
and hits taken out between them. Source: ACTS, Ai et al., Comput. Softw. Big Sci. 6 (2022) 8.
"""

import functools
from typing import NamedTuple

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import TrackParameters
from trackbench.errors import InputError, describe
from trackbench.geometry.acts_detector import ROTATION_COLUMNS, build_detector, load_acts

# Resolution along the local axes 0 and 1 of a module, per volume [mm]: root mean squares of simulated hits within 20 %,
# but for axis 1 of volume 8 (0.006), where the larger value finds as many tracks and a few more perfect ones.
SIGMA = {
    **dict.fromkeys((7, 9), (0.0145, 0.0105)),
    8: (0.0095, 0.0095),
    **dict.fromkeys((12, 14), (0.018, 0.31)),
    13: (0.018, 0.28),
    **dict.fromkeys((16, 18), (0.026, 2.9)),
    17: (0.026, 3.1),
}
MIN_OWN_HITS = 3
MEASUREMENTS = "measurements"  # on every board
OFF_PLANE = 0.1  # farthest that a hit may lie from the plane of its module [mm]; published hits are within 0.005
OFF_EDGE = 10.0  # farthest beyond its edge [mm], for modules that are not quite where they should be


class Found(NamedTuple):
    """Tracks found by ACTS.

    track, hit: (k,) int64, hit ``hit`` is a measurement of track ``track``
    parameters: (m, 6) at the perigee [mm, rad, 1/GeV, -]: d0, z0, phi, theta, q/p, time
    covariance: (m, 6, 6)
    chi2: (m,) float64; n_measurements, n_holes: (m,) int64
    """

    track: np.ndarray
    hit: np.ndarray
    parameters: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    n_measurements: np.ndarray
    n_holes: np.ndarray

    def __len__(self) -> int:
        return len(self.chi2)

    def take(self, kept: np.ndarray) -> "Found":
        """Return the tracks where ``kept`` (m,) bool is true, numbered anew."""
        number = np.cumsum(kept) - 1
        rows = kept[self.track]
        return Found(number[self.track[rows]], self.hit[rows], *(array[kept] for array in self[2:]))


def joined(parts: list[Found]) -> Found:
    """Join the tracks of several passes, numbered in order."""
    first = np.cumsum([0, *(len(part) for part in parts)])
    tracks = np.concatenate([part.track + start for part, start in zip(parts, first, strict=False)])
    return Found(tracks, *(np.concatenate([part[i] for part in parts]) for i in range(1, len(Found._fields))))


class Board:
    """White boards of ACTS for one event: measurements, then whatever algorithms add.

    hits: n hits of one event, all on modules of the detector
    Raises InputError for a hit on an unknown module or off its plane, MissingExtraError without pyacts.
    """

    def __init__(self, hits: Hits):
        self.acts, self.examples = load_acts("ckf", "the tracker ckf")
        self._owner = _owner()
        self.n_hits = len(hits)
        identifier, local = local_positions(hits)
        # By module as ACTS keeps them; a subset of n measurements in another order takes it n^2 steps.
        self._order = order = np.argsort(identifier, kind="stable")
        identifier, local = identifier[order], local[order]
        variance = np.array([np.square(SIGMA[volume]) for volume in hits.volume_id[order].tolist()])
        container = self.examples.MeasurementContainer()
        container.reserve(self.n_hits)
        known, axes = _identifiers(), [0, 1]
        for i, place, errors in zip(identifier.tolist(), local.tolist(), variance.tolist(), strict=True):
            container.emplaceMeasurement(known[i], axes, place, errors)
        first, context = self._new()
        self._owner.write(self.examples.MeasurementContainer, MEASUREMENTS)(context, container)
        self._measurements = self._owner.read(self.examples.MeasurementContainer, MEASUREMENTS)(first)
        self._first, self.store, self.context = first, None, None

    def start(self, hits: np.ndarray) -> None:
        """Begin a pass on some of the hits: a new board that holds them as ``measurements``. hits: (k,) int rows."""
        subset = self.examples.MeasurementSubset
        chosen = np.zeros(self.n_hits, dtype=bool)
        chosen[hits] = True
        measurements = np.flatnonzero(chosen[self._order]).tolist()
        self.store, self.context = self._new()
        self._owner.write(subset, MEASUREMENTS)(self.context, subset(self._measurements, measurements))

    def run(self, algorithm) -> None:
        """Execute an algorithm on the board of the pass."""
        algorithm.execute(self.context)

    def tracks(self, name: str) -> Found:
        """Take the tracks ``name`` off the board of the pass."""
        container = self._owner.read(self.examples.ConstTrackContainer, name)(self.store)
        index_of = self.examples.IndexSourceLink.fromSourceLink
        pairs = [
            (number, index_of(state.uncalibratedSourceLink).index())
            for number, track in enumerate(container)
            for state in track.trackStatesReversed
            if state.typeFlags.isMeasurement
        ]
        track, measurement = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        m = len(container)
        return Found(
            track,
            self._order[measurement],
            np.array(container.parameters, dtype=np.float64).reshape(m, 6),
            np.array(container.covariance, dtype=np.float64).reshape(m, 6, 6),
            np.array(container.chi2, dtype=np.float64),
            np.bincount(track, minlength=m),
            np.array(container.nHoles, dtype=np.int64),
        )

    def seeds(self, points: str, name: str) -> Found:
        """Take seeds off the board as tracks of their three hits, without fits; chi2 is minus the quality of a seed."""
        index_of = self.examples.IndexSourceLink.fromSourceLink
        space_points = self._owner.read(self.acts.SpacePointContainer, points)(self.store)
        measurement = np.array([index_of(next(iter(point.sourceLinks))).index() for point in space_points], np.int64)
        seeds = self._owner.read(self.acts.SeedContainer, name)(self.store)
        chosen = np.array([list(seed.spacePointIndices) for seed in seeds], dtype=np.int64).reshape(-1, 3)
        m = len(chosen)
        no_fit = np.zeros((m, 6)), np.zeros((m, 6, 6)), -np.array([seed.quality for seed in seeds], dtype=np.float64)
        hits = self._order[measurement[chosen.ravel()]]
        three, none = np.full(m, 3, dtype=np.int64), np.zeros(m, dtype=np.int64)
        return Found(np.repeat(np.arange(m), 3), hits, *no_fit, three, none)

    def _new(self):
        store = self.examples.WhiteBoard(self.acts.logging.ERROR)
        return store, self.examples.AlgorithmContext(0, 0, store, 0)


class _Owner:
    """Handles by which Python puts things on a white board and takes them off; ACTS wants an algorithm behind each."""

    def __init__(self, examples, algorithm):
        self._examples, self._algorithm, self._handles = examples, algorithm, {}

    def write(self, kind, name: str):
        """Callable (context, object) that puts an object of class ``kind`` on the board."""
        return self._handle(self._examples.WriteDataHandle, kind, name)

    def read(self, kind, name: str):
        """Callable (store) that returns the object ``name``."""
        return self._handle(self._examples.ReadDataHandle, kind, name)

    def _handle(self, handle_class, kind, name: str):
        key = (handle_class, kind, name)
        if key not in self._handles:
            self._handles[key] = handle_class(self._algorithm, kind, f"{handle_class.__name__}{len(self._handles)}")
            self._handles[key].initialize(name)
        return self._handles[key]


@functools.cache
def _owner() -> _Owner:
    """The handles of this process; they hold names only, no event."""
    acts, examples = load_acts()

    class Nothing(examples.IAlgorithm):
        def execute(self, context):
            return examples.ProcessCode.SUCCESS

    return _Owner(examples, Nothing("trackbench", acts.logging.ERROR))


@functools.cache
def _identifiers() -> dict:
    """ACTS' own identifier objects by their number."""
    return {key.value: key for key in build_detector().tracking_geometry.geoIdSurfaceMap()}


def local_positions(hits: Hits) -> tuple[np.ndarray, np.ndarray]:
    """Positions of hits in the plane of their modules.

    Returns the ACTS identifier of each module, (n,) uint64, and (n, 2) float64: local axes 0 and 1 of ACTS [mm].
    Raises InputError for a hit on an unknown module or away from it by more than ``OFF_PLANE`` or ``OFF_EDGE``.
    """
    detector = build_detector()
    identifier = detector.geometry_ids(hits.volume_id, hits.layer_id, hits.module_id)
    row = detector.rows(identifier)
    where = f"event {hits.event_id}"
    if (unknown := np.flatnonzero(row < 0)).size:
        module = "/".join(str(getattr(hits, name)[unknown[0]]) for name in ("volume_id", "layer_id", "module_id"))
        what = f"{unknown.size} hits on unknown modules (first hit_id {hits.hit_id[unknown[0]]} on {module})"
        raise InputError(describe(where, what, "volume/layer/module of the TrackML detector"))
    centre = detector.table[["cx", "cy", "cz"]].to_numpy()[row]
    rotation = detector.table[ROTATION_COLUMNS].to_numpy().reshape(-1, 3, 3)[row]
    local = np.einsum("nji,nj->ni", rotation, hits.xyz - centre)
    beyond = np.abs(local[:, :2]) - detector.table[["module_maxhu", "module_hv"]].to_numpy()[row]
    _require_near(hits, np.abs(local[:, 2]), OFF_PLANE, "off the plane of")
    _require_near(hits, beyond.max(axis=1, initial=-np.inf), OFF_EDGE, "beyond the edge of")
    return identifier, local[:, :2]


def _require_near(hits: Hits, distance: np.ndarray, limit: float, where: str) -> None:
    """Raise InputError about hits that are too far from their module. distance: (n,) [mm]."""
    if (off := np.flatnonzero(~(distance <= limit))).size:
        first = f"first hit_id {hits.hit_id[off[0]]}, by {distance[off[0]]:.3g} mm"
        what = f"{off.size} hits {where} their module ({first})"
        remedy = "the Kalman filter needs x, y, z and module_id of the TrackML detector"
        raise InputError(describe(f"event {hits.event_id}", what, f"at most {limit} mm", remedy))


def best_track(found: Found, n_hits: int) -> np.ndarray:
    """Give each hit to one track: among those that have it, to that with most measurements, then the lowest chi2.

    Tracks that keep fewer than ``MIN_OWN_HITS`` are given up.
    Returns (n_hits,) int64, the number of the track, -1 without.
    """
    order = np.lexsort((found.chi2, -found.n_measurements))
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    best = np.full(n_hits, len(found), dtype=np.int64)
    np.minimum.at(best, found.hit, rank[found.track])
    track = np.append(order, -1)[best]
    own = np.bincount(track[track >= 0], minlength=len(found) + 1)
    return np.where((track >= 0) & (own[track] >= MIN_OWN_HITS), track, -1)


def by_first_hit(track: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number tracks by their first hit, since the order in which ACTS gives them means nothing.

    track: (n,) int64, -1 without
    Returns labels (n,) int64, and the tracks of label 0, 1, ...
    """
    assigned = track >= 0
    tracks, first, number = np.unique(track[assigned], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    labels = np.full(track.size, -1, dtype=np.int64)
    labels[assigned] = place[number]
    return labels, tracks[order]


def degrees_of_freedom(found: Found) -> np.ndarray:
    """Two coordinates per measurement, less five parameters. Returns (m,) int64."""
    return 2 * found.n_measurements - 5


def track_parameters(found: Found) -> TrackParameters:
    """Parameters at the perigee in trackbench's form: q/pT instead of q/p, no time."""
    d0, z0, phi, theta, q_over_p = found.parameters[:, :5].T
    sine = np.sin(theta)
    jacobian = np.tile(np.eye(5), (len(found), 1, 1))
    jacobian[:, 4, 4] = 1.0 / sine
    jacobian[:, 4, 3] = -q_over_p * np.cos(theta) / sine**2
    covariance = jacobian @ found.covariance[:, :5, :5] @ jacobian.transpose(0, 2, 1)
    phi = np.where(phi <= -np.pi, np.pi, phi)
    values = np.column_stack([d0, z0, phi, theta, q_over_p / sine])
    return TrackParameters(values, covariance, found.chi2, degrees_of_freedom(found), found.n_holes)
