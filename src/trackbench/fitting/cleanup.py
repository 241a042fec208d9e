"""Clean up and fit the candidates of any tracker: drop outliers, pick up hits, join fragments, share out hits.

What a tracker without a helix in it leaves to be done, with the parts of the helix finder:

1. drop outliers: fit each candidate and leave out hits that do not fit; hits left out that are a track of their
   own are split off (``robust``),
2. join fragments of one track (``joining``),
3. pick up compatible hits on all layers the track crosses (``candidate``), also hits of other candidates,
4. let the candidates compete for hits: the best takes its own, the others go on with what is left, and what is
   no track is rejected (``competition``).

No truth and no random number is used; the result depends on the hits and on which of them are together, not on
the order or the numbering. Limits: those of the fit, see ``trackers.helix_finder``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import TrackParameters, Tracks
from trackbench.errors import ConfigError, InputError, describe

STEPS = ("drop_outliers", "join", "pick_up", "compete", "fit")
MAX_SIZE = 200  # hits of a candidate in which a track is looked for; the effort grows with the third power


@dataclass(frozen=True)
class CleanUp:
    """Which steps are taken, and how strict they are.

    drop_outliers: leave out hits that do not fit; without it candidates are fitted as they are
    split: hits left out on three layers or more become candidates (needs drop_outliers)
    join: join fragments of one track
    pick_up: add compatible hits; hits of other candidates only with compete, which decides who keeps them
    compete: share out hits, reject what is no track; without it, a hit of several candidates goes to the one with
        most layers and the least chi2, and all candidates on three layers stay
    max_hit_chi2: largest contribution of a hit to chi2 (two measurements)
    max_added_chi2: largest chi2 of a hit that is picked up
    max_join_chi2: by which chi2 may grow when two fragments become one (five parameters)
    max_chi2_short: largest chi2 of prompt tracks on three layers, penalties for missing hits and an unlikely
        vertex included: lower means fewer chance triplets and fewer short tracks
    Raises ConfigError for a number that is not positive.
    """

    drop_outliers: bool = True
    split: bool = True
    join: bool = True
    pick_up: bool = True
    compete: bool = True
    max_hit_chi2: float = 16.0
    max_added_chi2: float = 12.0
    max_join_chi2: float = 30.0
    max_chi2_short: float = 30.0

    def __post_init__(self):
        for name in ("max_hit_chi2", "max_added_chi2", "max_join_chi2", "max_chi2_short"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(describe(f"clean_up.{name}", f"value {getattr(self, name)!r}", "a number > 0"))
            # The kernels would be compiled once more for an integer.
            object.__setattr__(self, name, float(getattr(self, name)))


@dataclass
class CleanUpReport:
    """What the steps of one call, or of several with the same report, changed.

    n_candidates: given; n_dropped: hits left out; n_split: candidates split off; n_joined: pairs joined;
    n_picked_up: hits added, some of them taken from others; n_tracks: result
    cpu_s: CPU seconds of each step, names of ``STEPS``
    """

    n_candidates: int = 0
    n_dropped: int = 0
    n_split: int = 0
    n_joined: int = 0
    n_picked_up: int = 0
    n_tracks: int = 0
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))

    @property
    def n_rejected(self) -> int:
        """Candidates that are no track, are given twice, or lost their hits to better ones."""
        return self.n_candidates + self.n_split - self.n_joined - self.n_tracks

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the CPU seconds of the block to step ``name``."""
        start = time.process_time()
        try:
            yield
        finally:
            self.cpu_s[name] += time.process_time() - start


def clean_up(
    hits: Hits, labels: np.ndarray, settings: CleanUp | None = None, report: CleanUpReport | None = None
) -> Tracks:
    """Clean up candidates given as one label per hit.

    hits: the hits of one event, any order, padding allowed
    labels: (n,) int, negative = unassigned; any numbering
    settings: see ``CleanUp``; report: collects what changed
    Returns labels (n,) int64, 0 .. n_tracks - 1, and the parameters of these tracks. Candidates on fewer than three
    layers after all steps, and those of more than ``MAX_SIZE`` hits, are left out.
    Raises InputError if labels and hits do not fit together, and for hits that are not finite, appear twice or are
    on no layer of the detector.
    """
    labels = _checked_labels(hits, labels)
    members = np.flatnonzero((labels >= 0) & hits.valid)
    members = members[np.argsort(labels[members], kind="stable")]
    _, sizes = np.unique(labels[members], return_counts=True)
    return clean_up_candidates(hits, np.concatenate([[0], np.cumsum(sizes)]), members, settings, report)


def clean_up_candidates(
    hits: Hits,
    offsets: np.ndarray,
    members: np.ndarray,
    settings: CleanUp | None = None,
    report: CleanUpReport | None = None,
) -> Tracks:
    """Clean up candidates that may share hits; otherwise as ``clean_up``.

    offsets: (m + 1,) int, candidate i has the hits members[offsets[i]:offsets[i + 1]]
    members: (k,) int, positions in ``hits``
    """
    from trackbench.fitting.cleanup_steps import Candidates, SortedEvent

    offsets, members = _checked_sets(hits, offsets, members)
    event, settings, report = SortedEvent(hits), settings or CleanUp(), report or CleanUpReport()
    offsets, members = event.canonical(offsets, members, report)
    candidates = Candidates(event, offsets, members, settings, report)
    candidates.join()
    candidates.pick_up()
    return candidates.result()


def fit_candidates(hits: Hits, labels: np.ndarray) -> TrackParameters:
    """Fit candidates as they are, d0 free, for trackers that give no parameters or others.

    hits: the hits of one event, any order, padding allowed
    labels: (n,) int, 0 .. m - 1, negative = unassigned
    Returns the parameters of m = largest label + 1 candidates. Where there is no fit (fewer than three hits, more
    than 48, or no result) values, covariance and chi2 are NaN, n_dof is 0 and n_holes -1.
    Raises InputError as ``clean_up`` does.
    """
    from trackbench.fitting.cleanup_steps import fit_labelled

    return fit_labelled(hits, _checked_labels(hits, labels))


def _checked_labels(hits: Hits, labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(hits),) or labels.dtype.kind not in "iu":
        what = f"labels of shape {labels.shape} and type {labels.dtype}"
        raise InputError(describe(f"event {hits.event_id}", what, f"({len(hits)},) integers, one per hit"))
    return labels.astype(np.int64)


def _checked_sets(hits: Hits, offsets: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offsets, members = np.asarray(offsets, dtype=np.int64), np.asarray(members, dtype=np.int64)
    where = f"event {hits.event_id}"
    rising = offsets.ndim == 1 and offsets.size > 0 and offsets[0] == 0 and (np.diff(offsets) >= 0).all()
    if not rising or offsets[-1] != members.size:
        what = f"offsets that do not divide {members.size} members"
        raise InputError(describe(where, what, "0, ..., len(members), ascending"))
    if members.size and not 0 <= members.min() <= members.max() < len(hits):
        what = f"members from {members.min()} to {members.max()}"
        raise InputError(describe(where, what, f"positions of {len(hits)} hits"))
    return offsets, members
