"""Match track candidates to particles by shared hits: one contingency pass behind every metric."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe

NOISE = -1  # majority row of a cluster that noise leads


@dataclass(frozen=True)
class Contingency:
    """Shared hits of every (cluster, id) pair that has any, sorted by cluster, then id.

    labels: (c,) int64, ascending; size: (c,) hits per cluster
    ids: (k,) int64, ascending, every id that occurs; id_hits: (k,) hits per id, unassigned ones included
    pair_cluster, pair_id: (m,) positions in ``labels`` and ``ids``; pair_shared: (m,) shared hits
    hit_pair: (n,) pair of each hit, -1 = unassigned hit
    best: (c,) pair with most shared hits of each cluster; ties go to the smallest id
    """

    labels: np.ndarray
    size: np.ndarray
    ids: np.ndarray
    id_hits: np.ndarray
    pair_cluster: np.ndarray
    pair_id: np.ndarray
    pair_shared: np.ndarray
    hit_pair: np.ndarray
    best: np.ndarray


def contingency(labels: np.ndarray, ids: np.ndarray) -> Contingency:
    """Count shared hits of clusters and ids.

    labels: (n,) int, negative = unassigned
    ids: (n,) int, for example particle_id
    Cost O(n) by hashing, plus sorting the distinct values.
    """
    unique_ids, id_index = _number(ids)
    assigned = np.flatnonzero(labels >= 0)
    unique_labels, cluster = _number(labels[assigned])
    pairs, pair_of_hit = _number(cluster * max(unique_ids.size, 1) + id_index[assigned])
    pair_cluster, pair_id = np.divmod(pairs, max(unique_ids.size, 1))
    shared = np.bincount(pair_of_hit, minlength=pairs.size)
    hit_pair = np.full(len(labels), -1, dtype=np.int64)
    hit_pair[assigned] = pair_of_hit
    return Contingency(
        labels=unique_labels,
        size=np.bincount(cluster, minlength=unique_labels.size),
        ids=unique_ids,
        id_hits=np.bincount(id_index, minlength=unique_ids.size),
        pair_cluster=pair_cluster,
        pair_id=pair_id,
        pair_shared=shared,
        hit_pair=hit_pair,
        best=_first_maximum(pair_cluster, shared, unique_labels.size),
    )


def _number(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, ascending, and the position of each value among them: np.unique, but half the time.

    values: (n,) int. Hashing and sorting only the distinct values beats sorting all of them, and a table
    beats hashing where the values are small.
    """
    values = np.asarray(values, dtype=np.int64)
    if values.size and values.min() >= 0 and values.max() < 4 * values.size:
        table = np.zeros(values.max() + 1, dtype=np.int64)
        table[values] = 1
        return np.flatnonzero(table), np.cumsum(table)[values] - 1
    codes, found = pd.factorize(values)
    order = np.argsort(found)
    rank = np.empty(order.size, dtype=np.int64)
    rank[order] = np.arange(order.size)
    return found[order], rank[codes]


def _first_maximum(group: np.ndarray, value: np.ndarray, n_groups: int) -> np.ndarray:
    """Position of the first largest value of each group. group: (m,) ascending, each 0..n_groups-1 present."""
    if n_groups == 0:
        return np.zeros(0, dtype=np.int64)
    largest = np.maximum.reduceat(value, np.searchsorted(group, np.arange(n_groups)))
    at_maximum = np.flatnonzero(value == largest[group])
    return at_maximum[np.searchsorted(group[at_maximum], np.arange(n_groups))]


@dataclass(frozen=True)
class Matching:
    """Clusters (all sizes) and their majority particles; c clusters, m overlapping pairs, p particles.

    labels: (c,) int64, ascending
    size: (c,) hits in the cluster; shared: (c,) hits of its majority particle in it
    majority: (c,) row of the majority particle in ``Truth.particles``, ``NOISE`` = noise leads
    majority_hits: (c,) all hits of the majority particle, from the full event (noise: noise hits here)
    majority_weight: (c,) TrackML weight of the shared hits
    pair_cluster, pair_row, pair_shared: (m,) every overlap; pair_row as ``majority``
    pair_hits: (m,) all hits of the pair's particle
    seen: (p,) hits of each particle among the hits given
    n_noise: hits of noise among the hits given
    """

    labels: np.ndarray
    size: np.ndarray
    shared: np.ndarray
    majority: np.ndarray
    majority_hits: np.ndarray
    majority_weight: np.ndarray
    pair_cluster: np.ndarray
    pair_row: np.ndarray
    pair_shared: np.ndarray
    pair_hits: np.ndarray
    seen: np.ndarray
    n_noise: int

    @property
    def purity(self) -> np.ndarray:
        """Shared hits / cluster size, (c,)."""
        return self.shared / self.size

    @property
    def completeness(self) -> np.ndarray:
        """Shared hits / all hits of the majority particle, (c,)."""
        return self.shared / self.majority_hits

    @property
    def pure(self) -> np.ndarray:
        """Purity > 0.5, strict, in integers, (c,) bool."""
        return 2 * self.shared > self.size

    @property
    def double_majority(self) -> np.ndarray:
        """Purity > 0.5 and completeness > 0.5, both strict, and not led by noise, (c,) bool."""
        return self.pure & (2 * self.shared > self.majority_hits) & (self.majority != NOISE)


def match_clusters(labels: np.ndarray, truth: Truth) -> Matching:
    """Match every cluster to the particle with most hits in it.

    labels: (n,) int, one per row of ``truth``, negative = unassigned
    truth: the hits of each particle are counted in the full event (``Truth.particles.n_hits``), so that
        completeness stays right when ``truth`` holds only a sector or a window of the event
    Raises InputError if labels do not fit the truth or the truth contradicts itself.
    """
    labels = _check_labels(labels, truth)
    table = contingency(labels, truth.particle_id)
    row_of_id = _particle_rows(table.ids, truth)
    n_hits = truth.particles["n_hits"].to_numpy(np.int64)
    n_noise = int(table.id_hits[table.ids == 0].sum())
    full_hits = np.append(n_hits, n_noise)[row_of_id]  # row -1 = noise reads the appended value
    _check_counts(table, full_hits, truth)
    pair_weight = np.bincount(
        table.hit_pair[table.hit_pair >= 0], weights=truth.weight[table.hit_pair >= 0], minlength=len(table.pair_id)
    )
    seen = np.zeros(len(n_hits), dtype=np.int64)
    seen[row_of_id[row_of_id >= 0]] = table.id_hits[row_of_id >= 0]
    best_id = table.pair_id[table.best]
    return Matching(
        labels=table.labels,
        size=table.size,
        shared=table.pair_shared[table.best],
        majority=row_of_id[best_id],
        majority_hits=full_hits[best_id],
        majority_weight=pair_weight[table.best],
        pair_cluster=table.pair_cluster,
        pair_row=row_of_id[table.pair_id],
        pair_shared=table.pair_shared,
        pair_hits=full_hits[table.pair_id],
        seen=seen,
        n_noise=n_noise,
    )


def _check_labels(labels: np.ndarray, truth: Truth) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(truth),):
        where, what = f"labels of event {truth.event_id}", f"shape {labels.shape}"
        raise InputError(describe(where, what, f"({len(truth)},), one label per hit"))
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise InputError(describe(f"labels of event {truth.event_id}", f"type {labels.dtype}", "an integer type"))
    return labels.astype(np.int64, copy=False)


def _particle_rows(ids: np.ndarray, truth: Truth) -> np.ndarray:
    """Row of each particle_id in ``truth.particles``, ``NOISE`` for 0. ids: (k,) int64."""
    known = truth.particles["particle_id"].to_numpy(np.int64)
    where = f"particles of event {truth.event_id}"
    if known.size and (known[0] <= 0 or (np.diff(known) <= 0).any()):
        raise InputError(describe(where, "particle_id not ascending", "unique particle_id > 0, sorted"))
    rows = np.searchsorted(known, ids)
    missing = (ids != 0) & (np.append(known, 0)[rows] != ids)
    if missing.any():
        what = f"{missing.sum()} particle_id of hits are not listed (first {ids[missing][0]})"
        raise InputError(describe(where, what, "every particle with a hit", "prepare the event again"))
    return np.where(ids == 0, NOISE, rows)


def _check_counts(table: Contingency, full_hits: np.ndarray, truth: Truth) -> None:
    short = table.id_hits > full_hits
    if short.any():
        i = np.flatnonzero(short)[0]
        what = f"particle {table.ids[i]} has {table.id_hits[i]} hits but n_hits = {full_hits[i]}"
        expected = "n_hits counted in the scored hit collection of the full event"
        raise InputError(describe(f"particles of event {truth.event_id}", what, expected))
