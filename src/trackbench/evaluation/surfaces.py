"""How well clusters on one projection surface hold tracks together, and what they cost as attention mask.

Clusters are hit sets that may overlap: members[offsets[i] : offsets[i + 1]] are the hits of set i. Scored
tracks: particles with pT > 0.9 GeV and at least 3 hits in the region; all other hits are clustered, not
scored. Columns as in the table of the Trackformers talk ("Transformer-inspired ML models for particle
track reconstruction"; write-up arXiv:2509.26411), which does not define them: the definitions are ours.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.evaluation.intervals import interval_named, interval_text
from trackbench.evaluation.sample import TRUTH_FILTER, Sample

MIN_HITS = 3  # smallest cluster that counts, and fewest hits of a scored track in the region
PT_MIN = 0.9  # scored tracks have more [GeV]
BLOCK = 128  # side of the blocks that FlexAttention computes or skips as a whole
SCORED_TRACKS = f"tracks with pT > {PT_MIN:g} GeV and >= {MIN_HITS} hits in the region, no eta cut"
_PAIRS_AT_ONCE = 20_000_000  # bounds the memory of the distinct-pair count

_COLUMNS = (
    "Recon. ratio: mean over tracks (pT > 0.9 GeV, at least 3 hits in the region) of the largest fraction of "
    "the track's hits in one cluster; fully and majority contained: fraction of 1, above 1/2; DM: tracks with a "
    "cluster that holds more than half of the track and is more than half made of it; clusters: with at least 3 "
    "hits; attention: sum of squared cluster sizes over squared number of hits (pairs: distinct hit pairs that "
    "share a cluster; blocks: non-empty 128 x 128 blocks with hits sorted by cluster); coverage: hits in a "
    "cluster. Track fractions are pooled over tracks; clusters, tracks, attention and coverage are means over "
    "events."
)
_CAVEATS = (
    "Caveats: the beam-spot length sigma_z decides the barrel, and that of the talk's events is unknown: never "
    "compare across samples of different sigma_z. The talk's 'endcap' is taken to be one endcap; both are listed "
    "here. Its barrel row names are lost and assumed to be in the order of its endcap rows. Its barrel "
    "iterative-window attention of 0.000285 does not fit its other columns (499 clusters would cover at most 38 % "
    "of the hits at a recon. ratio of 0.955), perhaps a misprint of 0.00285. Mask settings were chosen on another "
    "simulated event to be near the talk's table: similarity is no independent confirmation. A recon. ratio of 1 "
    "is reached by one cluster of all hits: read it together with attention."
)


def hits_of_regions(selection_label: str) -> str:
    """Hits used, in words: the surfaces are those of the pixel volumes, whatever else the sample holds."""
    return selection_label.replace("hits of the full detector", "pixel hits")


def selection_text(sample: Sample) -> str:
    """Return the selection behind the measured rows of the surface table."""
    text = f"{SCORED_TRACKS}; {hits_of_regions(sample.selection_label)}"
    return f"{text}; {TRUTH_FILTER}" if sample.truth_filter else text


def caption(sample: Sample | None = None, interval: str = "clopper-pearson") -> str:
    """Explain the surface table: data, columns, errors, caveats.

    sample: the measured events, None = not said; interval: name of the binomial interval of DM
    """
    data = "" if sample is None else f"Measured: {hits_of_regions(sample.label())}; {SCORED_TRACKS}. "
    data += f"WARNING {TRUTH_FILTER}. " if sample is not None and sample.truth_filter else ""
    errors = (
        f" Errors: {interval_text(interval)} for DM, standard error over tracks for the recon. ratio and over events"
        " for attention. "
    )
    return data + _COLUMNS + errors + _CAVEATS


@dataclass(frozen=True)
class RegionScore:
    """Clusters of one region of one event against the truth.

    best_fraction: (n_tracks,) largest fraction of each scored track in one cluster
    matched: (n_tracks,) bool, double majority within the region
    n_hits, n_clusters: hits in the region, clusters with at least 3 of them
    attention, attention_pairs, block_density, coverage: fractions; NaN in a region without hits
    """

    best_fraction: np.ndarray
    matched: np.ndarray
    n_hits: int
    n_clusters: int
    attention: float
    attention_pairs: float
    block_density: float
    coverage: float


def score_region(offsets: np.ndarray, members: np.ndarray, rows: np.ndarray, truth: Truth) -> RegionScore:
    """Score the clusters of one region of one event.

    offsets: (k + 1,) and members: (m,) int, the hit sets; members are rows of ``truth``
    rows: (n,) int, ascending: the rows of ``truth`` that lie in the region
    Raises InputError if a member lies outside the region.
    """
    n_hits = len(rows)
    local = np.searchsorted(rows, members)
    if len(members) and (local.max() >= n_hits or (rows[local] != members).any()):
        raise InputError(describe(f"clusters of event {truth.event_id}", "a hit from another region", "own hits"))
    offsets, local = _drop_small(np.asarray(offsets), local)
    tracks, track_of_hit = _scored_tracks(truth, rows)
    best_fraction, matched = _match(offsets, local, track_of_hit, tracks)
    return RegionScore(
        best_fraction=best_fraction,
        matched=matched,
        n_hits=n_hits,
        n_clusters=len(offsets) - 1,
        attention=attention(offsets, n_hits),
        attention_pairs=attention_pairs(offsets, local, n_hits),
        block_density=block_density(offsets, local, n_hits),
        coverage=np.unique(local).size / n_hits if n_hits else float("nan"),
    )


def _drop_small(offsets, members):
    size = np.diff(offsets)
    kept = size >= MIN_HITS
    return np.concatenate(([0], np.cumsum(size[kept]))), members[np.repeat(kept, size)]


def _scored_tracks(truth, rows):
    """Hits of each scored track in the region (n_tracks,), and the track of each hit there, -1 = none."""
    particle_id = truth.particle_id[rows]
    fast = truth.particles["particle_id"].to_numpy()[truth.particles["pt"].to_numpy() > PT_MIN]
    ids, hits = np.unique(particle_id[particle_id > 0], return_counts=True)
    scored = np.isin(ids, fast) & (hits >= MIN_HITS)
    number = np.append(np.where(scored, np.cumsum(scored) - 1, -1), -1)
    place = np.searchsorted(ids, particle_id)
    known = np.append(ids, 0)[place] == particle_id
    return hits[scored], np.where(known, number[place], -1)


def _match(offsets, members, track_of_hit, track_hits):
    size = np.diff(offsets)
    cluster, track = np.repeat(np.arange(len(size)), size), track_of_hit[members]
    cluster, track = cluster[track >= 0], track[track >= 0]
    n_tracks = len(track_hits)
    pair, shared = np.unique(cluster * max(n_tracks, 1) + track, return_counts=True)
    cluster, track = np.divmod(pair, max(n_tracks, 1))
    best = np.zeros(n_tracks)
    np.maximum.at(best, track, shared / track_hits[track])
    matched = np.zeros(n_tracks, dtype=bool)
    matched[track[(2 * shared > track_hits[track]) & (2 * shared > size[cluster])]] = True
    return best, matched


def attention(offsets: np.ndarray, n_hits: int) -> float:
    """Sum of squared cluster sizes over n_hits^2: 1 for one cluster of all hits, 1 / n_hits for singletons."""
    return float(np.sum(np.diff(offsets).astype(np.float64) ** 2)) / n_hits**2 if n_hits else float("nan")


def attention_pairs(offsets: np.ndarray, members: np.ndarray, n_hits: int) -> float:
    """Distinct ordered pairs (i, j), i = j included, that share a cluster, over n_hits^2.

    Equals ``attention`` for disjoint clusters. members: (m,) int in 0..n_hits-1.
    """
    if np.unique(members).size == len(members):
        return attention(offsets, n_hits)
    from scipy.sparse import csr_array

    by_cluster = csr_array((np.ones(len(members), np.int32), members, offsets), shape=(len(offsets) - 1, n_hits))
    by_hit = by_cluster.T.tocsr()
    # Work per hit: the sizes of all its clusters; rows are taken in portions of bounded work.
    work = np.cumsum(by_hit @ np.diff(offsets))
    cuts = np.searchsorted(work, np.arange(_PAIRS_AT_ONCE, work[-1], _PAIRS_AT_ONCE))
    edges = np.unique(np.concatenate(([0], cuts, [n_hits])))
    pairs = sum((by_hit[a:b] @ by_cluster).nnz for a, b in pairwise(edges))
    return pairs / n_hits**2


def block_density(offsets: np.ndarray, members: np.ndarray, n_hits: int) -> float:
    """Fraction of 128 x 128 blocks of the attention matrix with at least one allowed pair.

    Hits are sorted by their first cluster, hits in no cluster last. What FlexAttention can skip is the rest;
    with all hits in clusters the fraction is at least 1 / ceil(n_hits / 128).
    """
    if n_hits == 0:
        return float("nan")
    from scipy.sparse import csr_array

    n_clusters = len(offsets) - 1
    cluster = np.repeat(np.arange(n_clusters), np.diff(offsets))
    first = np.full(n_hits, n_clusters)
    np.minimum.at(first, members, cluster)
    position = np.empty(n_hits, dtype=np.int64)
    position[np.argsort(first, kind="stable")] = np.arange(n_hits)
    n_blocks = -(-n_hits // BLOCK)
    entries = (np.ones(len(members), np.int64), (cluster, position[members] // BLOCK))
    touches = csr_array(entries, shape=(n_clusters, n_blocks))
    return (touches.T @ touches).nnz / n_blocks**2


def pool_scores(scores: list[RegionScore], interval: str = "clopper-pearson") -> dict[str, float]:
    """Pool one region over events: columns of the surface table (see ``caption``).

    interval: name of the binomial interval of DM
    Returns recon_ratio, recon_ratio_err, fully_contained, majority_contained, dm, dm_lo, dm_hi, clusters,
    tracks, attention, attention_err, attention_pairs, block_density, coverage, n_hits, n_events. Events
    without a hit in the region count in n_events only; what cannot be computed is NaN.
    """
    best = np.concatenate([score.best_fraction for score in scores])
    matched = np.concatenate([score.matched for score in scores])
    found, n = int(matched.sum()), len(best)
    low, high = interval_named(interval)(found, n)
    return {
        "recon_ratio": _mean(best),
        "recon_ratio_err": _standard_error(best),
        "fully_contained": _mean(best == 1),
        "majority_contained": _mean(best > 0.5),
        "dm": _mean(matched),
        "dm_lo": float(low),
        "dm_hi": float(high),
        "clusters": _mean([score.n_clusters for score in scores]),
        "tracks": n / len(scores),
        "attention": _mean_of(scores, "attention"),
        "attention_err": _standard_error([score.attention for score in scores if score.n_hits]),
        "attention_pairs": _mean_of(scores, "attention_pairs"),
        "block_density": _mean_of(scores, "block_density"),
        "coverage": _mean_of(scores, "coverage"),
        "n_hits": _mean([score.n_hits for score in scores]),
        "n_events": len(scores),
    }


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _mean_of(scores, name: str) -> float:
    return _mean([getattr(score, name) for score in scores if score.n_hits])


def _standard_error(values) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
