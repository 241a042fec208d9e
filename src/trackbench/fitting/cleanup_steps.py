"""The steps of ``cleanup`` on the candidates of one event; loads the compiled kernels."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import TrackParameters, Tracks
from trackbench.errors import InputError, describe
from trackbench.fitting import joining, model, result, robust, tables
from trackbench.fitting.cleanup import MAX_SIZE, CleanUp, CleanUpReport
from trackbench.fitting.competition import Rules, Store, compete, joined, new_store, select
from trackbench.fitting.vertex_prior import no_prior, vertex_prior

_BEAM_WIDTH, _DISPLACED_WIDTH = 0.02, 3.0  # prior of d0 [mm]
_SIGMA_K, _MAX_WINDOW = 3.0, 8.0  # prior of q/pT [1/GeV], largest search [mm]
_NO_LIMIT = 1e9
_SPLIT_SIZE = 4  # least hits of what is split off: three agree by chance
_SPLIT_ROUNDS = 2
_MAX_DISTANCE, _MAX_PAIRS = 50.0, 1 << 20  # of fragments that are tried
_LAYER_SCORE, _HOLE_SCORE, _MIN_SCORE = 16.0, 6.0, 10.0
_HOLE_CHI2, _EDGE_CHI2, _EXTRA_CHI2 = 9.0, 7.5, 4.0
_DISPLACED_CHI2_3, _DISPLACED_CHI2_4 = 6.0, 20.0  # displaced tracks have one parameter more to adapt
_PRIOR_RANGE = 300.0  # candidates from further along the beam line say nothing about vertices [mm]


class SortedEvent:
    """The real hits of one event as the kernels want them.

    index: (k,) positions of the real hits among the n_given; order: (k,) positions in ``index`` of the sorted ones
    hits: ``tables.SortedHits``; module: (k,) int64, module number of the sorted hits
    """

    def __init__(self, hits: Hits):
        self.n_given = len(hits)
        index = np.flatnonzero(hits.valid)
        self.index = index[np.argsort(hits.hit_id[index], kind="stable")]
        real = hits.take(self.index)
        _check_hits(real)
        self.order, self.hits = model.sort_hits(real)
        self.module = real.module_id[self.order]
        self.size = self.order.size

    def layers(self, search: bool):
        """Return the layers, of the pixel detector if all hits are there; see ``model.detector_layers``."""
        return model.detector_layers(self.hits.first.size == model.N_PIXEL_LAYERS + 1, search)

    def given(self, label: np.ndarray) -> np.ndarray:
        """Return labels (k,) of the sorted hits as labels of the hits given, int64, -1 for padding."""
        labels = np.full(self.n_given, -1, dtype=np.int64)
        labels[self.index[self.order]] = label
        return labels

    def canonical(
        self, offsets: np.ndarray, members: np.ndarray, report: CleanUpReport
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets and members of the sorted hits; candidates ordered by their hits, each of them once."""
        place = np.full(self.n_given, -1, dtype=np.int64)
        place[self.index[self.order]] = np.arange(self.size)
        members = place[members]
        sets = [np.unique(members[a:b]) for a, b in pairwise(offsets)]
        sets = [hits[np.searchsorted(hits, 0) :] for hits in sets]  # padding is left out
        found = {hits.astype(">i8").tobytes(): hits for hits in sets}  # big-endian bytes sort as the numbers do
        ordered = [found[key] for key in sorted(found) if key]
        report.n_candidates += len(sets)
        sizes = np.array([hits.size for hits in ordered], dtype=np.int64)
        return np.concatenate([[0], np.cumsum(sizes)]), np.concatenate([*ordered, np.empty(0, np.int64)])


def constants(settings: CleanUp) -> robust.Priors:
    """Return the constants of the fit."""
    added = settings.max_added_chi2
    prompt = tables.Model(_BEAM_WIDTH, _SIGMA_K, model.BEAM_PIPE, settings.max_hit_chi2, added, added, _MAX_WINDOW)
    penalty = 2.0 * np.log(_DISPLACED_WIDTH / _BEAM_WIDTH)
    return robust.Priors(prompt, prompt._replace(sigma_d0=_DISPLACED_WIDTH), penalty)


class Candidates:
    """The candidates of one event on their way through the steps; hits are positions in the sorted ones."""

    def __init__(
        self, event: SortedEvent, offsets: np.ndarray, members: np.ndarray, settings: CleanUp, report: CleanUpReport
    ):
        """Fit candidate i with the hits members[offsets[i]:offsets[i + 1]]; if asked for, drop outliers and split."""
        self.event, self.settings, self.report = event, settings, report
        self.hits, self.layers, self.priors = event.hits, event.layers(search=True), constants(settings)
        self.work = tables.new_work()
        with report.step("drop_outliers"):
            self.fits = self._found(offsets, members) if settings.drop_outliers else self._unchanged(offsets, members)

    def _unchanged(self, offsets: np.ndarray, members: np.ndarray) -> robust.Fits:
        fits = _new_fits(offsets.size - 1)
        robust.fit_unchanged(offsets, members, self.hits, self.layers, self.priors, self.work, fits)
        return fits

    def _found(self, offsets: np.ndarray, members: np.ndarray) -> robust.Fits:
        parts = [_new_fits(0)]
        for turn in range(_SPLIT_ROUNDS + 1 if self.settings.split else 1):
            fits = _new_fits(offsets.size - 1)
            robust.find_tracks(offsets, members, self.hits, self.layers, self.priors, self.work, MAX_SIZE, fits)
            parts.append(fits)
            offsets, members, n_out = _left_out(offsets, members, fits.store, self.event.size)
            if turn == 0:
                self.report.n_dropped += n_out
            else:
                self.report.n_split += fits.displaced.size
        return _joined_fits(parts)

    def join(self) -> None:
        """Join fragments, most alike first."""
        if not self.settings.join:
            return
        with self.report.step("join"):
            rows = np.flatnonzero(self.fits.store.n_layers >= 2)
            rows = rows[np.argsort(self.fits.store.tracks[rows, 0], kind="stable")]
            pairs, distances = np.empty((_MAX_PAIRS, 2), dtype=np.int64), np.empty(_MAX_PAIRS)
            n = min(joining.similar_pairs(rows, self.fits, _MAX_DISTANCE, pairs, distances), _MAX_PAIRS)
            pairs = pairs[:n][np.lexsort((pairs[:n, 1], pairs[:n, 0], distances[:n]))]
            state = (self.hits, self.event.module, self.layers, self.priors, self.work)
            self.report.n_joined += joining.join_pairs(pairs, *state, self.settings.max_join_chi2, self.fits)

    def pick_up(self) -> None:
        """Add hits to candidates."""
        if not self.settings.pick_up:
            return
        with self.report.step("pick_up"):
            used = np.zeros(self.event.size, dtype=bool)
            before = _hit_pairs(self.fits.store, self.event.size)
            if not self.settings.compete:
                used[before % self.event.size] = True
            priors = self.priors
            if not self.settings.drop_outliers:
                priors = constants(replace(self.settings, max_hit_chi2=_NO_LIMIT))
            robust.pick_up_all(self.hits, self.layers, priors, self.work, used, self.fits)
            after = _hit_pairs(self.fits.store, self.event.size)
            self.report.n_picked_up += np.setdiff1d(after, before, assume_unique=True).size

    def result(self) -> Tracks:
        """Share out the hits and return what is left, with final fits."""
        with self.report.step("compete"):
            label, store = self._competed() if self.settings.compete else self._shared_out()
        with self.report.step("fit"):
            layers, rows = self.event.layers(search=False), np.arange(store.n_hits.size)
            parameters = result.track_parameters(rows, store, self.hits, layers, self.priors.prompt, self.work)
        self.report.n_tracks += rows.size
        return Tracks(self.event.given(label), parameters)

    def _competed(self) -> tuple[np.ndarray, Store]:
        """Return labels of the sorted hits, and the accepted candidates: prompt before displaced, long before short."""
        used, label = np.zeros(self.event.size, dtype=bool), np.full(self.event.size, -1, dtype=np.int64)
        prior, accepted, n_found = no_prior(), [], 0
        short = self.settings.max_chi2_short
        stages = (
            (4, False, _NO_LIMIT, _NO_LIMIT),
            (4, True, _NO_LIMIT, _DISPLACED_CHI2_4),
            (3, False, short, _NO_LIMIT),
            (3, True, min(short, _DISPLACED_CHI2_3), _DISPLACED_CHI2_4),
        )
        for min_layers, displaced, chi2_3, chi2_4 in stages:
            scores = (_LAYER_SCORE, _HOLE_SCORE, _MIN_SCORE)
            rules = Rules(*scores, min_layers, chi2_3, chi2_4, _HOLE_CHI2, _EDGE_CHI2, _EXTRA_CHI2)
            fit_model = self.priors.displaced if displaced else self.priors.prompt
            rows = np.flatnonzero((self.fits.displaced == displaced) & (self.fits.store.n_layers >= min_layers))
            store = select(self.fits.store, rows)
            state = (self.hits, self.layers, fit_model, rules, prior, self.work, used, label)
            store = select(store, np.array(compete(store, *state, n_found), dtype=np.int64))
            if not accepted:  # prompt tracks on four layers are the best measured ones
                z0 = store.tracks[:, 3]
                prior = vertex_prior(z0[np.abs(z0) < _PRIOR_RANGE])
            n_found += store.n_hits.size
            accepted.append(store)
        return label, joined(accepted)

    def _shared_out(self) -> tuple[np.ndarray, Store]:
        """Return labels of the sorted hits and all candidates on three layers; the better one keeps a shared hit."""
        store = self.fits.store
        rows = np.flatnonzero(store.n_layers >= 3)
        rows = rows[np.lexsort((rows, store.chi2[rows], -store.n_layers[rows]))]
        store, label = select(store, rows), np.full(self.event.size, -1, dtype=np.int64)
        kept = []
        for row in range(rows.size):
            own = store.hits[row, : store.n_hits[row]]
            own = own[label[own] < 0]
            if own.size >= 3:
                label[own] = len(kept)
                store.hits[row, : own.size], store.n_hits[row] = own, own.size
                kept.append(row)
        return label, select(store, np.array(kept, dtype=np.int64))


def _new_fits(m: int) -> robust.Fits:
    """Return room for the fits of m candidates."""
    return robust.Fits(new_store(m), np.zeros(m, dtype=bool), np.zeros((m, 3, 3)), np.zeros((m, 2, 2)))


def _joined_fits(parts: list[robust.Fits]) -> robust.Fits:
    """Concatenate fits; there must be one at least."""
    store, *columns = zip(*parts, strict=True)
    return robust.Fits(joined(list(store)), *(np.concatenate(column) for column in columns))


def _left_out(offsets: np.ndarray, members: np.ndarray, store: Store, n: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the hits left out of candidates with a track, where there are ``_SPLIT_SIZE``, as candidates.

    n: number of hits. The third value is the number of hits left out of all candidates with a track.
    """
    row = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    out = (store.n_layers[row] >= 2) & ~np.isin(row * n + members, _hit_pairs(store, n))
    members, row = members[out], row[out]
    n_out = members.size
    large = np.bincount(row, minlength=offsets.size - 1)[row] >= _SPLIT_SIZE
    members, row = members[large], row[large]
    _, sizes = np.unique(row, return_counts=True)
    return np.concatenate([[0], np.cumsum(sizes)]), members, n_out


def _hit_pairs(store: Store, n: int) -> np.ndarray:
    """Return candidate * n + hit for all hits of candidates with a track; n: number of hits."""
    sizes = np.where(store.n_layers >= 2, store.n_hits, 0)
    row, column = np.nonzero(np.arange(store.hits.shape[1]) < sizes[:, None])
    return row * n + store.hits[row, column]


def fit_labelled(hits: Hits, labels: np.ndarray) -> TrackParameters:
    """Do the work of ``cleanup.fit_candidates``."""
    event = SortedEvent(hits)
    label = labels[event.index][event.order]
    m = int(label.max(initial=-1)) + 1
    members = np.argsort(label, kind="stable")
    offsets = np.searchsorted(label[members], np.arange(m + 1))
    layers, store, work = event.layers(search=False), new_store(m), tables.new_work()
    free = constants(CleanUp()).prompt._replace(sigma_d0=result.FREE_D0)
    robust.fit_free(offsets, members, event.hits, layers, free, work, store)
    fitted = np.flatnonzero(store.n_hits >= 3)
    return _spread(result.track_parameters(fitted, store, event.hits, layers, free, work), fitted, m)


def _spread(fitted: TrackParameters, rows: np.ndarray, m: int) -> TrackParameters:
    """Put the finite ones of fitted parameters into ``rows`` of m candidates, NaN elsewhere."""
    finite = np.isfinite(fitted.values).all(axis=1) & np.isfinite(fitted.covariance).all(axis=(1, 2))
    finite &= np.isfinite(fitted.chi2)
    fitted, rows = fitted.take(finite), rows[finite]
    values, covariance, chi2 = np.full((m, 5), np.nan), np.full((m, 5, 5), np.nan), np.full(m, np.nan)
    n_dof, n_holes = np.zeros(m, dtype=np.int64), np.full(m, -1, dtype=np.int64)
    values[rows], covariance[rows], chi2[rows] = fitted.values, fitted.covariance, fitted.chi2
    n_dof[rows], n_holes[rows] = fitted.n_dof, fitted.n_holes
    return TrackParameters(values, covariance, chi2, n_dof, n_holes)


def _check_hits(hits: Hits) -> None:
    """Check real hits, sorted by hit_id, for what the fit cannot stand."""
    bad = hits.hit_id[~np.isfinite(hits.xyz).all(axis=1)]
    if bad.size:
        what = f"{bad.size} hits with a non-finite position (first hit_id {bad[0]})"
        raise InputError(describe(f"event {hits.event_id}", what, "finite x, y, z [mm]", "remove them"))
    repeated = hits.hit_id[1:][np.diff(hits.hit_id) == 0]
    if repeated.size:
        what = f"{repeated.size} duplicate hit_id (first {repeated[0]})"
        raise InputError(describe(f"event {hits.event_id}", what, "unique hit_id"))
