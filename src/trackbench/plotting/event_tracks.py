"""Which tracks of an event a display draws, in which colour, and through which hits."""

from dataclasses import dataclass

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.plotting.style import PALETTE

MIN_HITS = 3  # shortest track drawn
MIN_SHARED = 2  # hits a candidate must share with a drawn particle to be drawn beside it
TRACK_COLORS = tuple(color for color in PALETTE if color not in ("#94a4a2", "#717581"))  # grey is the background


@dataclass(frozen=True)
class DrawnTracks:
    """Tracks to draw, hit by hit, each track inside out.

    rows: (m,) int, position of the hit in the event; a track's hits are consecutive
    track: (m,) int, number of the track 0..n_tracks-1 in drawing order
    label: (m,) int64, particle_id or candidate label of the track
    color: (m,) int, index into ``TRACK_COLORS``
    n_tracks, n_total: tracks drawn, and tracks there were to draw
    """

    rows: np.ndarray
    track: np.ndarray
    label: np.ndarray
    color: np.ndarray
    n_tracks: int
    n_total: int


def truth_tracks(hits: Hits, truth: Truth, pt_min: float, max_tracks: int, max_hits: int = 10**9) -> DrawnTracks:
    """Particles of pT >= ``pt_min`` [GeV] with at least 3 hits here, highest pT first.

    truth: row by row beside ``hits``; max_tracks, max_hits: no more tracks, and hits of them, than this
    Raises InputError if hits and truth differ in length.
    """
    if len(truth) != len(hits):
        raise InputError(describe("display", f"{len(truth)} truth rows for {len(hits)} hits", "one row per hit"))
    particles = truth.particles[truth.particles["pt"] >= pt_min]
    particles = particles.sort_values(["pt", "particle_id"], ascending=[False, True])
    return _choose(hits, truth.particle_id, particles["particle_id"].to_numpy(np.int64), max_tracks, max_hits, None)


def candidate_tracks(
    hits: Hits,
    labels: np.ndarray,
    truth: DrawnTracks | None,
    max_tracks: int,
    max_hits: int = 10**9,
    others: bool = False,
) -> DrawnTracks:
    """Candidates with at least 3 hits that belong to the drawn particles, in the particle's colour.

    labels: (n,) int, one label per hit, negative = unassigned
    truth: particles drawn beside them; a candidate belongs to the drawn particle that has most of its
        hits, if it has at least 2. Fragments of one particle share its colour. None: all candidates,
        longest first, in the colours of the palette.
    others: the candidates that belong to no drawn particle instead, longest first
    Returns the candidates; ``n_total`` counts all that could be drawn without the limits. Raises
    InputError if labels and hits differ in length.
    """
    labels = np.asarray(labels, np.int64)
    if labels.shape != (len(hits),):
        raise InputError(describe("display", f"{labels.size} labels for {len(hits)} hits", "one label per hit"))
    names, size = np.unique(labels[(labels >= 0) & hits.valid], return_counts=True)
    owner = np.full(names.size, -1, dtype=np.int64)
    if truth is not None and names.size:
        owner = _owners(labels, names, truth)
    order = np.lexsort((names, -size, owner))
    if truth is not None:
        order = order[(owner[order] < 0) == others]
    color = np.where(owner >= 0, owner, np.arange(names.size)) % len(TRACK_COLORS)
    return _choose(hits, labels, names[order], max_tracks, max_hits, color[order])


def _owners(labels: np.ndarray, names: np.ndarray, truth: DrawnTracks) -> np.ndarray:
    """Number of the drawn particle with most hits in each candidate, -1 = none. Ties: higher pT."""
    inside = labels[truth.rows] >= 0
    candidate = np.searchsorted(names, labels[truth.rows][inside])
    pairs, shared = np.unique(np.column_stack((candidate, truth.track[inside])), axis=0, return_counts=True)
    pairs, shared = pairs[shared >= MIN_SHARED], shared[shared >= MIN_SHARED]
    order = np.lexsort((pairs[:, 1], -shared, pairs[:, 0]))
    first, start = np.unique(pairs[order, 0], return_index=True)
    owner = np.full(names.size, -1, dtype=np.int64)
    owner[first] = pairs[order, 1][start]
    return owner


def _choose(hits, group, wanted, max_tracks, max_hits, color) -> DrawnTracks:
    """Take groups in the order of ``wanted`` until a limit is met; group: (n,) label per hit."""
    known, number = np.unique(wanted, return_index=True)
    place = np.clip(np.searchsorted(known, group), 0, max(known.size - 1, 0))
    is_wanted = hits.valid & (known[place] == group) if known.size else np.zeros(len(hits), dtype=bool)
    rank = np.where(is_wanted, number[place] if known.size else 0, -1)
    n_hits = np.bincount(rank[is_wanted], minlength=wanted.size)
    usable = n_hits >= MIN_HITS
    drawn = usable & (np.cumsum(usable) <= max_tracks) & (np.cumsum(np.where(usable, n_hits, 0)) <= max_hits)
    number = np.cumsum(drawn) - 1  # of the drawn tracks
    rows = np.flatnonzero(is_wanted & np.append(drawn, False)[rank])
    distance = np.linalg.norm(hits.xyz[rows], axis=1)  # grows along a track in barrel and endcaps
    rows = rows[np.lexsort((hits.hit_id[rows], distance, rank[rows]))]
    track = number[rank[rows]] if rows.size else np.empty(0, np.int64)
    shade = track % len(TRACK_COLORS) if color is None else color[rank[rows]]
    return DrawnTracks(rows, track, np.asarray(group)[rows], shade, int(drawn.sum()), int(usable.sum()))


def with_gaps(values: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Insert NaN between tracks, so that one line object draws them all.

    values: (m,) float; track: (m,) int, equal for consecutive hits of one track
    Returns (m + number of tracks - 1,).
    """
    breaks = np.flatnonzero(np.diff(track)) + 1
    return np.insert(np.asarray(values, np.float64), breaks, np.nan)
