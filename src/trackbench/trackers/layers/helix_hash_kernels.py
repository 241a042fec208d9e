"""Compiled kernel of ``helix_hash``: fill and read one hash table per helix hypothesis.

A cell of the table is one 64-bit word: the lower 48 bits flag the layers that have a hit in the cell,
the upper 16 bits count the hits. One word per cell keeps the random memory accesses, which are the
whole cost of the scan, to one read and one write per hit. All arithmetic that needs a transcendental
function is done once per curvature in NumPy (``helix_hash.py``) or comes from a table.
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
    score: (49, max_hits + 1) float64, score of a cell by number of layers and hits; < 0 = no candidate
    """

    eta_bin: np.ndarray
    score: np.ndarray


class Cells(NamedTuple):
    """The hash table and the cell of every hit (work space).

    shape: (n_phi, n_eta); word: (n_phi * n_eta,) uint64, all zero between hypotheses; key: (n,) int64
    """

    shape: tuple[int, int]
    word: np.ndarray
    key: np.ndarray


class Best(NamedTuple):
    """Best cell seen so far by every hit. score: (n,) float64; label: (n,) int64, -1 = none."""

    score: np.ndarray
    label: np.ndarray


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
    for i in range(hits.z.size):
        dz = hits.z[i] - z0
        position = (dz / (hits.path[i] + abs(dz)) + 1.0) * half
        k = int(position)
        low = eta_bin[k]
        eta = low + (eta_bin[k + 1] - low) * (position - k)
        row = int(hits.phi_bin[i] + offset[0])
        if row >= n_phi:
            row -= n_phi
        key = row * n_eta + int(eta + offset[1])
        cells.key[i] = key
        word = cells.word[key] | hits.layer_bit[i]
        if word >> _SHIFT < _MANY_HITS:
            word += _ONE_HIT
        cells.word[key] = word


@njit(cache=True)
def _vote(cells, score_table, first_label, best):
    max_hits = score_table.shape[1] - 1
    for i in range(cells.key.size):
        key = cells.key[i]
        word = cells.word[key]
        n_hits = np.int64(word >> _SHIFT)
        if n_hits <= max_hits:
            score = score_table[count_bits(word & _LAYERS), n_hits]
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
        _vote(cells, tables.score, first_label + j * cells.word.size, best)
