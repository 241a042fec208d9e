"""Kernels that look for the track in a set of hits of which some may be foreign, or fit the set as it is.

A set is fitted from the helix through three of its hits; if hits are lost on the way, from the track through two
of them and the beam line, or through three, that has most hits on a narrow road (every pair or triplet is tried,
as in RANSAC: M. A. Fischler and R. C. Bolles, Comm. ACM 24 (1981) 381, but nothing is drawn at random). Both are
done for tracks from the beam line and for displaced ones. Sets on two layers are fitted as tracks from the beam
line: a fragment of a track may need no more to be continued or joined.
"""

import math
from typing import NamedTuple

import numpy as np

from trackbench.fitting.candidate import FAILED, copy_first, refine, sort_by_radius
from trackbench.fitting.competition import Store, record
from trackbench.fitting.compiled import kernel
from trackbench.fitting.gls import fit
from trackbench.fitting.helix import COT, D0, MAX_K, PHI0, Z0, K, clipped, from_two_hits, path_length, turn_sine, wrap
from trackbench.fitting.prediction import count_bits, layer_bits
from trackbench.fitting.tables import MAX_HITS, Model
from trackbench.geometry.detector import CURVATURE

# A road collects the hits near a track through two or three of them, roughly; the fit decides.
_ROAD = 0.05  # half-width of the road for stiff tracks [mm]
_ROAD_PER_K = 0.15  # and more for soft ones, which scatter: per q/pT [mm GeV]
_MAX_START_Z = 400.0  # tracks do not come from further along the beam line [mm]
_LAYER_WORTH = 16.0  # of a layer, on the scale of chi2
_GOOD_CHI2 = 2.0  # per hit: nothing else is tried
_MAX_TRIPLETS = 14  # hits; starts through three of more hits are not tried, their number grows too fast


class Priors(NamedTuple):
    """Two hypotheses of a track.

    prompt, displaced: constants of the fit with a narrow and with a wide prior of d0
    penalty: added to chi2 of displaced tracks, 2 ln(ratio of the widths), as a wide prior fits anything better
    """

    prompt: Model
    displaced: Model
    penalty: float


class Fits(NamedTuple):
    """Candidates, their fits, and which of them are fitted with the wide prior of d0.

    displaced: (m,) bool; cov_t: (m, 3, 3), cov_l: (m, 2, 2), covariances as in ``tables.Work``
    """

    store: Store
    displaced: np.ndarray
    cov_t: np.ndarray
    cov_l: np.ndarray


@kernel
def from_three_hits(i, j, m, hits, p):
    """Set p to the helix through the hits i, m and, in the transverse plane, j; radii increase.

    With the curvature rho of the circle and the normal n of its direction at hit i, the vector
    w = rho X_i + n points along the normal of the perigee and |w| = 1 + rho d0, see ``helix``.
    """
    xi, yi = hits.r[i] * math.cos(hits.phi[i]), hits.r[i] * math.sin(hits.phi[i])
    xj, yj = hits.r[j] * math.cos(hits.phi[j]) - xi, hits.r[j] * math.sin(hits.phi[j]) - yi
    xm, ym = hits.r[m] * math.cos(hits.phi[m]) - xi, hits.r[m] * math.sin(hits.phi[m]) - yi
    chord = math.sqrt(xm * xm + ym * ym)
    sides = math.sqrt(xj * xj + yj * yj) * chord * math.sqrt((xm - xj) ** 2 + (ym - yj) ** 2)
    rho = 2.0 * (xj * ym - yj * xm) / max(sides, 1e-12)  # Menger curvature, positive to the left
    limit = 2.0 * CURVATURE * MAX_K
    rho = min(max(rho, -limit), limit)
    direction = math.atan2(ym, xm) - math.asin(clipped(0.5 * rho * chord))
    wx, wy = rho * xi - math.sin(direction), rho * yi + math.cos(direction)
    length = math.sqrt(wx * wx + wy * wy)
    p[PHI0] = math.atan2(-wx, wy)
    p[K] = -rho / (2.0 * CURVATURE)
    p[D0] = (rho * hits.r[i] ** 2 + 2.0 * (yi * math.cos(direction) - xi * math.sin(direction))) / (length + 1.0)
    si, sm = path_length(hits.r[i], p), path_length(hits.r[m], p)
    p[COT] = (hits.z[m] - hits.z[i]) / max(sm - si, 1e-3)
    p[Z0] = hits.z[i] - p[COT] * si


@kernel
def start_track(index, n, hits, p):
    """Set p to the helix through the first, the middle and the last of n hits, by radius.

    With hits on two layers only, to the helix from the beam line through the first and the last.
    """
    first, last = index[0], index[n - 1]
    if count_bits(layer_bits(index, n, hits)) < 3:
        from_two_hits(hits.phi[first], hits.r[first], hits.z[first], hits.phi[last], hits.r[last], hits.z[last], p)
        return
    middle, best = index[n // 2], 1e30
    centre = 0.5 * (hits.r[first] + hits.r[last])
    for i in range(1, n - 1):
        if abs(hits.r[index[i]] - centre) < best:
            middle, best = index[i], abs(hits.r[index[i]] - centre)
    from_three_hits(first, middle, last, hits, p)


@kernel
def on_road(index, n, hits, layers, p, out):
    """Collect the hits within the road around p into ``out``, at most ``MAX_HITS``.

    Returns their number and what they are worth: layers first, then closeness.
    """
    width = _ROAD + _ROAD_PER_K * abs(p[K])
    sine = 1.0 / math.sqrt(1.0 + p[COT] * p[COT])
    count, bits, off = 0, 0, 0.0
    for i in range(n):
        j = index[i]
        r = hits.r[j]
        across = abs(r * wrap(hits.phi[j] - p[PHI0] - math.asin(clipped(turn_sine(r, p)))))
        if across > width:
            continue
        along = abs(hits.z[j] - p[Z0] - p[COT] * path_length(r, p)) * sine
        reach = width + 3.0 * layers.sigma_l[hits.layer[j]]
        if along <= reach and count < MAX_HITS:
            out[count] = j
            count += 1
            bits |= 1 << hits.layer[j]
            off += across / width + along / reach
    return count, count_bits(bits) + 0.5 * (count - count_bits(bits)) - 0.25 * off


@kernel
def best_road(index, n, hits, layers, displaced, p, trial, members):
    """Look through the tracks of all pairs of hits (of triplets, if displaced) for the one with the best road.

    Fills p and ``members``; trial: scratch like ``members``. Returns the number of hits on the road, 0 for none.
    """
    best, best_worth = 0, 0.0
    q = np.empty(5)
    for i in range(n):
        for m in range(i + 1, n):
            inner, outer = index[i], index[m]
            if hits.layer[inner] == hits.layer[outer] or hits.r[outer] - hits.r[inner] < 10.0:
                continue
            middle = i + 1 if displaced else m
            while middle < m or (middle == m and not displaced):
                if displaced:
                    from_three_hits(inner, index[middle], outer, hits, q)
                else:
                    from_two_hits(
                        hits.phi[inner], hits.r[inner], hits.z[inner], hits.phi[outer], hits.r[outer], hits.z[outer], q
                    )
                middle += 1
                if abs(q[Z0]) > _MAX_START_Z or abs(q[K]) >= MAX_K:
                    continue
                count, worth = on_road(index, n, hits, layers, q, trial)
                if worth > best_worth:
                    best, best_worth = count, worth
                    copy_first(q, q.size, p)
                    copy_first(trial, count, members)
    return best


@kernel
def fit_free(offsets, members, hits, layers, model, work, store):
    """Fit candidates of 3 .. 2 MAX_HITS hits without changing them; others have chi2 ``FAILED``."""
    for row in range(offsets.size - 1):
        n = offsets[row + 1] - offsets[row]
        store.chi2[row] = FAILED
        if 3 <= n <= 2 * MAX_HITS:
            index, p = store.hits[row], store.tracks[row]
            copy_first(members[offsets[row] :], n, index)
            sort_by_radius(index, n, hits)
            start_track(index, n, hits, p)
            record(row, store, n, fit(index, n, hits, layers, model, p, work, np.int64(4)), hits, layers, work)


@kernel
def _attempt(index, n, hits, layers, priors, displaced, p, work, others, best_index, best_p, best):
    """Fit one start with one prior, leaving out hits and taking them back; keep it if it beats ``best``.

    others: (n_hits,) bool, hits of other candidates; best: number of hits, worth, chi2, displaced
    Returns the new ``best``.
    """
    out = work.scratch[2]
    if displaced:
        n, chi2 = refine(index, n, hits, layers, priors.displaced, p, work, others, np.int64(3), out)
        chi2 += priors.penalty
    else:
        n, chi2 = refine(index, n, hits, layers, priors.prompt, p, work, others, np.int64(2), out)
    n_layers = count_bits(layer_bits(index, n, hits))
    worth = _LAYER_WORTH * (n_layers + 0.5 * (n - n_layers)) - chi2
    if chi2 >= FAILED or not worth > best[1]:  # nor if it is NaN, from hits at the same place
        return best
    copy_first(index, n, best_index)
    copy_first(p, p.size, best_p)
    return n, worth, chi2, displaced


@kernel
def find_track(own, n, hits, layers, priors, work, others, index, p):
    """Find the best track among the first n hits in ``own``, by radius: all of them if they agree, else a part.

    Starts are the helix through three of the hits and, if that loses hits, the best road; both with the prompt
    prior, and with the wide one if the result is not good.
    others: (n_hits,) bool, False for the hits of ``own``
    index, p: get the hits and the track. Returns the number of hits, 0 without a track, and the prior taken.
    """
    trial, q, members = np.empty(max(n, 2 * MAX_HITS), np.int64), np.empty(5), np.empty(2 * MAX_HITS, np.int64)
    best = (np.int64(0), -FAILED, FAILED, np.bool_(False))
    for displaced in (False, True):
        if n <= MAX_HITS and not (best[0] == n and best[2] < _GOOD_CHI2 * n):
            copy_first(own, n, trial)
            start_track(trial, n, hits, q)
            best = _attempt(trial, n, hits, layers, priors, displaced, q, work, others, index, p, best)
    for displaced in (False, True):
        if best[0] == n or (displaced and (n > _MAX_TRIPLETS or best[0] >= n - 1)):
            break
        count = best_road(own, n, hits, layers, displaced, q, trial, members)
        if count >= 2:
            best = _attempt(members, count, hits, layers, priors, displaced, q, work, others, index, p, best)
    return best[0], best[3]


@kernel
def find_tracks(offsets, members, hits, layers, priors, work, max_hits, fits):
    """Apply ``find_track`` to candidates on at least two layers with at most max_hits hits; others have n_layers 0."""
    own = np.empty(max(max_hits, 2 * MAX_HITS), np.int64)
    others = np.ones(hits.r.size, np.bool_)
    for row in range(offsets.size - 1):
        n = offsets[row + 1] - offsets[row]
        if n > max_hits:
            continue
        copy_first(members[offsets[row] :], n, own)
        if count_bits(layer_bits(own, n, hits)) < 2:
            continue
        sort_by_radius(own, n, hits)
        for i in range(n):
            others[own[i]] = False
        index, p = fits.store.hits[row], fits.store.tracks[row]
        left, displaced = find_track(own, n, hits, layers, priors, work, others, index, p)
        for i in range(n):
            others[own[i]] = True
        if left > 0:
            refit(row, left, displaced, hits, layers, priors, work, fits)


@kernel
def fit_unchanged(offsets, members, hits, layers, priors, work, fits):
    """Fit candidates on at least two layers as they are, with the better prior.

    Those with more than MAX_HITS hits, for which there is no room, have n_layers 0.
    """
    p = np.empty(5)
    for row in range(offsets.size - 1):
        n = offsets[row + 1] - offsets[row]
        if n > MAX_HITS:
            continue
        index, q = fits.store.hits[row], fits.store.tracks[row]
        copy_first(members[offsets[row] :], n, index)
        n_layers = count_bits(layer_bits(index, n, hits))
        if n_layers < 2:
            continue
        sort_by_radius(index, n, hits)
        start_track(index, n, hits, p)
        copy_first(p, p.size, q)
        chi2 = fit(index, n, hits, layers, priors.prompt, q, work, np.int64(4))
        displaced = False
        if n_layers > 2:
            displaced = not chi2 <= fit(index, n, hits, layers, priors.displaced, p, work, np.int64(4)) + priors.penalty
        if displaced:
            copy_first(p, p.size, q)
        if math.isfinite(q.sum()):
            refit(row, n, displaced, hits, layers, priors, work, fits)


@kernel
def refit(row, n, displaced, hits, layers, priors, work, fits):
    """Fit the first n hits of a row once more and record the result."""
    index, p = fits.store.hits[row], fits.store.tracks[row]
    if displaced:
        chi2 = fit(index, n, hits, layers, priors.displaced, p, work, np.int64(1))
    else:
        chi2 = fit(index, n, hits, layers, priors.prompt, p, work, np.int64(1))
    fits.displaced[row] = displaced
    for a in range(3):
        copy_first(work.cov_t[a], np.int64(3), fits.cov_t[row, a])
    for a in range(2):
        copy_first(work.cov_l[a], np.int64(2), fits.cov_l[row, a])
    record(row, fits.store, n, chi2, hits, layers, work)


@kernel
def pick_up_all(hits, layers, priors, work, used, fits):
    """Add compatible unused hits to candidates; hits that fit worse with them are left out."""
    out = np.empty(4)
    store = fits.store
    for row in range(store.n_hits.size):
        if store.n_layers[row] < 2:
            continue
        model = priors.displaced if fits.displaced[row] else priors.prompt
        index, p = store.hits[row], store.tracks[row]
        n, chi2 = refine(index, store.n_hits[row], hits, layers, model, p, work, used, np.int64(2), out)
        if chi2 < FAILED:
            refit(row, n, fits.displaced[row], hits, layers, priors, work, fits)
        else:
            store.n_layers[row] = 0
