"""Compiled kernel of ``helix_hash``: fill and read one hash table per helix hypothesis.

A cell of the table is one 64-bit word: the lower 48 bits flag the layers that have a hit in the cell,
the upper 16 bits count the hits. One word per cell keeps the random memory accesses, which are most of
the cost of the scan, few. All arithmetic that needs a transcendental function is done once per
curvature in NumPy (``helix_hash.py``) or comes from a table. The hits of a cell form a linked list, so
that the spread inside a cell is computed only where it can decide something.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

LAYER_BITS = 48  # the TrackML detector has 48 (volume, layer) pairs
_ONE_HIT = np.uint64(1 << LAYER_BITS)
_LAYERS = np.uint64((1 << LAYER_BITS) - 1)
_SHIFT = np.uint64(LAYER_BITS)
_EMPTY = np.uint64(0)
# A count that would overflow stays here, far above any allowed max_hits.
_MANY_HITS = np.uint64(60000)

_PAIRS = np.uint64(0x5555555555555555)
_NIBBLES = np.uint64(0x3333333333333333)
_BYTES = np.uint64(0x0F0F0F0F0F0F0F0F)
_SUM_BYTES = np.uint64(0x0101010101010101)
_S1, _S2, _S4, _S56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


class HitArrays(NamedTuple):
    """Hits under one curvature hypothesis, sorted by azimuth so that neighbours share cache lines.

    phi_bin: (n,) float64 in [0, n_phi), azimuth of the helix at the origin in units of the bin width
    path: (n,) float64 > 0, transverse path length from the beam line [mm]
    z: (n,) float64 [mm]
    layer_bit: (n,) uint64, ``1 << layer`` with layer in 0..47
    """

    phi_bin: np.ndarray
    path: np.ndarray
    z: np.ndarray
    layer_bit: np.ndarray


class Hypotheses(NamedTuple):
    """The vertex positions of one scan. z0: (m,) float64 [mm]; offset: (m, 2) bin offsets in [0, 1)."""

    z0: np.ndarray
    offset: np.ndarray


class Tables(NamedTuple):
    """Functions given as tables.

    eta_bin: (n_points + 2,) float64, polar bin as a function of z/(path + |z|) in -1..1, last value twice
    score: (49, max_hits + 1) float64, score of a cell by number of layers and hits before the spread
        penalty; < 0 = no candidate
    spread_penalty: subtracted per squared bin width of spread, >= 0
    """

    eta_bin: np.ndarray
    score: np.ndarray
    spread_penalty: float


class Cells(NamedTuple):
    """The hash table and the place of every hit in it (work space).

    shape: (n_phi, n_eta)
    word: (n_phi * n_eta,) uint64, layers and count, all zero between hypotheses
    first: (n_phi * n_eta,) int32, first hit of the cell, meaningful where word is not zero
    key: (n,) int64, cell of the hit
    following: (n,) int32, next hit in the same cell in ascending order, -1 = last
    inside: (n, 2) float64, position of the hit inside its cell in units of the bin widths
    """

    shape: tuple[int, int]
    word: np.ndarray
    first: np.ndarray
    key: np.ndarray
    following: np.ndarray
    inside: np.ndarray


class Best(NamedTuple):
    """Best cell seen so far by every hit. score: (n,) float64; label: (n,) int64, -1 = none."""

    score: np.ndarray
    label: np.ndarray


def empty_cells(n_phi: int, n_eta: int, n_hits: int) -> Cells:
    """Return the work space for n_hits hits in n_phi x n_eta cells."""
    words, first = np.zeros(n_phi * n_eta, np.uint64), np.empty(n_phi * n_eta, np.int32)
    key, following = np.empty(n_hits, np.int64), np.empty(n_hits, np.int32)
    return Cells((n_phi, n_eta), words, first, key, following, np.empty((n_hits, 2)))


@njit(cache=True)
def count_bits(word):
    """Return the number of set bits of a uint64 (parallel bit count in the word itself)."""
    word = word - ((word >> _S1) & _PAIRS)
    word = (word & _NIBBLES) + ((word >> _S2) & _NIBBLES)
    word = (word + (word >> _S4)) & _BYTES
    return np.int64((word * _SUM_BYTES) >> _S56)


@njit(cache=True)
def _fill(hits, z0, offset, eta_bin, cells):
    n_phi, n_eta = cells.shape
    half = 0.5 * (eta_bin.size - 2)
    # Backwards, because each hit goes to the front of its list: the lists are then in ascending order
    # and the sums over a cell do not depend on how they are implemented.
    for i in range(hits.z.size - 1, -1, -1):
        dz = hits.z[i] - z0
        position = (dz / (hits.path[i] + abs(dz)) + 1.0) * half
        k = int(position)
        phi = hits.phi_bin[i] + offset[0]
        eta = eta_bin[k] + (eta_bin[k + 1] - eta_bin[k]) * (position - k) + offset[1]
        row, column = int(phi), int(eta)
        cells.inside[i, 0] = phi - row
        cells.inside[i, 1] = eta - column
        if row >= n_phi:
            row -= n_phi
        key = row * n_eta + column
        cells.key[i] = key
        word = cells.word[key]
        cells.following[i] = cells.first[key] if word != _EMPTY else -1
        cells.first[key] = i
        word |= hits.layer_bit[i]
        if word >> _SHIFT < _MANY_HITS:
            word += _ONE_HIT
        cells.word[key] = word


@njit(cache=True)
def _spread(cells, key, n_hits):
    """Sum of squared distances of the hits of a cell from their mean, in squared bin widths."""
    phi, phi_2, eta, eta_2 = 0.0, 0.0, 0.0, 0.0
    i = cells.first[key]
    while i >= 0:
        phi += cells.inside[i, 0]
        phi_2 += cells.inside[i, 0] * cells.inside[i, 0]
        eta += cells.inside[i, 1]
        eta_2 += cells.inside[i, 1] * cells.inside[i, 1]
        i = cells.following[i]
    return (phi_2 - phi * phi / n_hits) + (eta_2 - eta * eta / n_hits)


@njit(cache=True)
def _vote(cells, tables, first_label, best):
    max_hits = tables.score.shape[1] - 1
    for i in range(cells.key.size):
        key = cells.key[i]
        word = cells.word[key]
        n_hits = np.int64(word >> _SHIFT)
        if n_hits > max_hits:
            continue
        score = tables.score[count_bits(word & _LAYERS), n_hits]
        if score > best.score[i]:
            score -= tables.spread_penalty * _spread(cells, key, n_hits)
            if score > best.score[i]:
                best.score[i] = score
                best.label[i] = first_label + key
    for i in range(cells.key.size):
        cells.word[cells.key[i]] = _EMPTY


@njit(cache=True)
def scan_vertices(hits, hypotheses, tables, cells, first_label, best):
    """Scan all vertex hypotheses of one curvature and keep the best cell of every hit in ``best``.

    hits: HitArrays; hypotheses: Hypotheses; tables: Tables; cells: Cells, zeroed; best: Best, updated
    first_label: label of cell 0 of the first hypothesis; hypothesis j uses first_label + j * n_cells + cell
    A cell replaces the best one of a hit only if its score is strictly higher. Cost O(n_hits * n_z0).
    """
    for j in range(hypotheses.z0.size):
        _fill(hits, hypotheses.z0[j], hypotheses.offset[j], tables.eta_bin, cells)
        _vote(cells, tables, first_label + j * cells.word.size, best)
