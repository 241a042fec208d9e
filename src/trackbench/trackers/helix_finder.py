"""Helix finder: seeds, layer-by-layer following and a fit with multiple scattering; no training.

Steps, each on the hits the former ones left:

1. Prompt tracks on four or more layers. Seeds are three hits on successive layers on a helix from the beam
   line; each is followed to the next layers, where the best compatible hit is taken and the fit repeated,
   then pruned and searched for further hits. Candidates compete: the best takes its hits, the others go on
   with what is left.
2. Displaced tracks on four or more layers: three hits on any helix with |d0| < ``max_d0``.
3. With strip hits only: tracks of less than three pixel hits, and others missed so far, on five or more layers;
   three hits with a strip among them on any helix that flies outwards.
4. Prompt tracks on three layers. Three hits agree by chance, so these must fit well, miss no layer a track
   would cross (a missing one costs chi2), and point to where the tracks found so far come from. How well
   depends on the number of hits, as chance does; a second hit on a layer, where modules overlap, counts for them.
5. Without strip hits: displaced tracks on three layers, in full events only those with such further hits.

Strip hits, if given, extend the candidates of all steps. Most tracks then cross ten layers, so holes count more in
candidates on three or four of them, and hits behind three empty layers are dropped.
``threads`` does not change the result.

Every candidate comes with its parameters at the perigee, d0 not pulled to the beam line. Limits: a uniform
field of 2 T, the TrackML detector, and the simulation's resolutions and material (``fitting.model``).

The ingredients are the textbook ones: R. Fruehwirth et al., "Data analysis techniques for high-energy physics"
(2000), chapters 2 and 3; a combinatorial track following without branching, and a global least-squares fit
instead of a Kalman filter.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import ClassVar

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.tracks import Tracks
from trackbench.errors import ConfigError, describe
from trackbench.trackers.base import Timer, TrackerBase


@dataclass(frozen=True)
class Config:
    """Settings of the finder.

    min_pt: lowest transverse momentum searched [GeV]; below the momentum of interest, because soft tracks
        that are not found leave their hits to chance candidates
    max_z0: largest |z0| searched [mm], 3.3 sigma_z of the beam spot; 180 for sigma_z = 55 mm
    max_d0: largest |d0| of displaced tracks seeded in the pixels [mm]; 0 = no search for these, nor in the strips
    max_chi2_short: largest chi2 of tracks on three layers, penalties included, for an event of 58,000 pixel
        hits and max_z0 = 18 mm; higher finds more of them and more chance triplets. It is lowered by
        2 ln(max_z0 / 18 mm) + 4 ln(pixel hits / 58,000): chance triplets per track grow that way
    threads: CPU threads
    """

    min_pt: float = 0.35
    max_z0: float = 18.0
    max_d0: float = 10.0
    max_chi2_short: float = 18.0
    threads: int = 1

    def __post_init__(self):
        ranges = {
            "min_pt": (0.1, 10.0),
            "max_z0": (1.0, 500.0),
            "max_d0": (0.0, 25.0),
            "max_chi2_short": (0.0, 100.0),
            "threads": (1, 256),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(describe(f"trackers.helix_finder.{name}", f"value {value}", f"{low} to {high}"))


# Constants of the search, tuned on the simulated events of EXPERIMENTS.md.
_PRUNE_CHI2, _ATTACH_CHI2, _OVERLAP_CHI2, _MAX_WINDOW = 16.0, 12.0, 12.0, 8.0
_BEAM_WIDTH, _DISPLACED_WIDTH = 0.02, 3.0  # prior of d0 in the fit [mm]
_SIGMA_K = 3.0  # prior of q/pT [1/GeV]
_SEED_CHI2, _FIT_CHI2, _DISPLACED_FIT_CHI2, _MAX_KINK = 20.0, 30.0, 20.0, 0.005
_DISPLACED_MIN_PT, _DISPLACED_Z0 = 0.77, 100.0
_MAX_MISSING = 1  # layers without a hit after which following stops
_OWNED_LAYERS = 4  # candidates on so many layers spare their hits' other seeds
_MAX_CHI2_DISPLACED = 12.0  # on four layers
_LAYER_SCORE, _HOLE_SCORE, _MIN_SCORE = 16.0, 6.0, 10.0
_HOLE_CHI2, _EDGE_CHI2, _EXTRA_CHI2 = 9.0, 5.0, 8.0
_NO_LIMIT = 1e9
_DISPLACED_CHI2 = 18.0  # by which displaced tracks on three layers must fit better than prompt ones
_REFERENCE_HITS, _REFERENCE_Z0 = 58_000, 18.0  # pixel hits at 200 pile-up, max_z0 there: where settings were tuned
# With strips: a track crosses ten layers or more, so one on few of them, with holes, is chance.
_FULL_MAX_GAP, _FULL_MAX_CHI2_4 = 2, 24.0
_FULL_HOLE_CHI2, _FULL_EDGE_CHI2, _FULL_HOLE_CHI2_4, _FULL_STOP_CHI2 = 18.0, 12.0, 9.0, 9.0
_STRIP_ANGLE, _STRIP_LINE_CHI2, _STRIP_FIT_CHI2 = 0.12, 9.0, 20.0  # see ``helix_strip_seeds``
_STRIP_WIDTH, _STRIP_LAYERS = 20.0, 5  # prior of d0 [mm], least number of layers
_CHUNK = 512  # hits whose seeds are followed in one call


class Tracker(TrackerBase):
    """See the module's text."""

    fits: ClassVar[bool] = True
    environment: ClassVar[str] = "cluster"

    def find_tracks(self, hits: Hits, timer: Timer) -> Tracks:
        """Return labels and parameters. Raises InputError for hits that are not on a layer of the detector."""
        with timer.stage("features"):
            search = _Search(hits, self.config)
        with timer.stage("clustering"):
            search.prompt(min_layers=4, n_second=1)
            if self.config.max_d0 > 0.0:
                search.displaced(min_layers=4)
                if not search.pixel_only:
                    search.strips()
            search.prompt(min_layers=3, n_second=2)
            if self.config.max_d0 > 0.0 and search.pixel_only:
                search.displaced(min_layers=3)
        with timer.stage("postprocess"):
            return search.result()


class _Search:
    """The state of one event: which hits are taken, and the candidates accepted so far."""

    def __init__(self, hits: Hits, config: Config):
        from trackbench.fitting import competition, model, tables, vertex_prior

        self.config = config
        self.order, self.hits = model.sort_hits(hits)
        self.pixel_only = pixel_only = self.hits.first.size == model.N_PIXEL_LAYERS + 1
        self.layers = model.detector_layers(pixel_only, search=True)
        self.seed_layers = model.detector_layers(pixel_only=True, search=True)
        self.true_layers = model.detector_layers(pixel_only)
        self.model = tables.Model(
            _BEAM_WIDTH, _SIGMA_K, model.BEAM_PIPE, _PRUNE_CHI2, _ATTACH_CHI2, _OVERLAP_CHI2, _MAX_WINDOW
        )
        if not pixel_only:
            self.model = self.model._replace(max_gap=_FULL_MAX_GAP)
        # Chance triplets per track grow with the square of the number of hits, and with the range of z0.
        n_pixel = max(int(self.hits.first[model.N_PIXEL_LAYERS]), _REFERENCE_HITS // 20)
        self.max_chi2_short = config.max_chi2_short - 4.0 * np.log(n_pixel / _REFERENCE_HITS)
        self.max_chi2_short -= 2.0 * np.log(config.max_z0 / _REFERENCE_Z0)
        self.used = np.zeros(len(hits), dtype=bool)
        self.label = np.full(len(hits), -1, dtype=np.int64)
        self.prior = vertex_prior.no_prior()
        self.works = SimpleQueue()
        for _ in range(config.threads):
            self.works.put(tables.new_work())
        self.accepted: list[competition.Store] = []
        self.n_found = 0

    def prompt(self, min_layers: int, n_second: int) -> None:
        """Find tracks from the beam line on at least so many layers."""
        from trackbench.trackers.layers.helix_following import Following, follow_prompt
        from trackbench.trackers.layers.helix_seeds import SeedCuts

        cuts = SeedCuts(1.0 / self.config.min_pt, self.config.max_z0, _SEED_CHI2, n_second)
        following = Following(_FIT_CHI2, _MAX_MISSING, min_layers, False)
        self._step(follow_prompt, self.model, cuts, following, self._rules(min_layers, self.max_chi2_short, _NO_LIMIT))

    def displaced(self, min_layers: int) -> None:
        """Find tracks on at least so many layers that need not come from the beam line."""
        from trackbench.trackers.layers.helix_displaced import DisplacedCuts
        from trackbench.trackers.layers.helix_following import Following, follow_displaced

        cuts = DisplacedCuts(1.0 / _DISPLACED_MIN_PT, self.config.max_d0, _DISPLACED_Z0, _MAX_KINK)
        model = self.model._replace(sigma_d0=_DISPLACED_WIDTH)
        following = Following(_DISPLACED_FIT_CHI2, _MAX_MISSING, min_layers, True)
        rules = self._rules(min_layers, self.max_chi2_short - _DISPLACED_CHI2, _MAX_CHI2_DISPLACED)
        self._step(follow_displaced, model, cuts, following, rules)

    def strips(self) -> None:
        """Find tracks with few or no pixel hits, on at least ``_STRIP_LAYERS`` layers."""
        from trackbench.fitting.model import N_PIXEL_LAYERS
        from trackbench.trackers.layers.helix_following import Following, follow_strips
        from trackbench.trackers.layers.helix_strip_seeds import StripCuts

        cuts = StripCuts(
            1.0 / _DISPLACED_MIN_PT, _STRIP_ANGLE, _DISPLACED_Z0, _MAX_KINK, _STRIP_LINE_CHI2, N_PIXEL_LAYERS
        )
        model = self.model._replace(sigma_d0=_STRIP_WIDTH)
        following = Following(_STRIP_FIT_CHI2, _MAX_MISSING, _STRIP_LAYERS, True)
        rules = self._rules(_STRIP_LAYERS, 0.0, _MAX_CHI2_DISPLACED)
        self._step(follow_strips, model, cuts, following, rules, seed_layers=self.layers)

    def _rules(self, min_layers: int, max_chi2_3: float, max_chi2_4: float):
        from trackbench.fitting.competition import Rules

        scores, penalties = (_LAYER_SCORE, _HOLE_SCORE, _MIN_SCORE), (_HOLE_CHI2, _EDGE_CHI2, _EXTRA_CHI2)
        if not self.pixel_only:
            max_chi2_4 = min(max_chi2_4, _FULL_MAX_CHI2_4)
            penalties = (_FULL_HOLE_CHI2, _FULL_EDGE_CHI2, _EXTRA_CHI2, _FULL_HOLE_CHI2_4, _FULL_STOP_CHI2)
        return Rules(*scores, min_layers, max_chi2_3, max_chi2_4, *penalties)

    def _step(self, follow, model, cuts, following, rules, seed_layers=None) -> None:
        """Follow all seeds, let the candidates compete, keep the winners."""
        from trackbench.fitting.competition import compete, select
        from trackbench.fitting.vertex_prior import no_prior, vertex_prior

        seed_layers = seed_layers or self.seed_layers
        store = self._candidates(follow, (self.hits, self.layers, seed_layers, model, cuts, following))
        work = self.works.get()
        prior = self.prior if model is self.model else no_prior()
        state = (self.hits, self.layers, model, rules, prior, work, self.used, self.label)
        rows = np.array(compete(store, *state, self.n_found), dtype=np.int64)
        self.works.put(work)
        if not self.accepted:  # the first step has the best measured tracks
            self.prior = vertex_prior(store.tracks[rows, 3])
        self.n_found += rows.size
        self.accepted.append(select(store, rows))

    def _candidates(self, follow, state: tuple):
        """Follow all seeds, innermost layers first; seeds inside a candidate from a layer before are skipped."""
        from trackbench.fitting.competition import joined, new_store
        from trackbench.trackers.layers.helix_following import mark_owners

        owner = np.full(self.used.size, -1, dtype=np.int64)
        stores, n_candidates = [new_store(0)], 0
        for layer in np.argsort(np.abs(state[2].position), kind="stable"):
            start, end = self.hits.first[layer], self.hits.first[layer + 1]
            chunks = [(a, min(a + _CHUNK, end)) for a in range(start, end, _CHUNK)]
            for found in self._map(lambda chunk: self._chunk(follow, chunk, state, owner), chunks):
                for store in found:
                    mark_owners(store, n_candidates, owner, _OWNED_LAYERS)
                    n_candidates += store.n_hits.size
                    stores.append(store)
        return joined(stores)

    def _map(self, function, chunks: list):
        """Call the function on each chunk, in ``threads`` threads; results in the order of the chunks."""
        if self.config.threads == 1:
            return [function(chunk) for chunk in chunks]
        with ThreadPoolExecutor(self.config.threads) as pool:
            return list(pool.map(function, chunks))

    def _chunk(self, follow, chunk: tuple[int, int], state: tuple, owner: np.ndarray) -> list:
        """Return the candidates with a seed that starts in hits chunk[0] .. chunk[1] - 1, as stores."""
        from trackbench.fitting.competition import new_store, select
        from trackbench.trackers.layers.helix_following import STORE_SIZE

        stores, (hit, end) = [], chunk
        work = self.works.get()
        while hit < end:
            store = new_store(STORE_SIZE)
            hit, n = follow(hit, end, *state, self.used, owner, work, store)
            stores.append(select(store, slice(n)))
        self.works.put(work)
        return stores

    def result(self) -> Tracks:
        """Return the labels in the order of the hits given, and the fitted parameters."""
        from trackbench.fitting.competition import joined
        from trackbench.fitting.result import track_parameters

        store, work = joined(self.accepted), self.works.get()
        rows = np.arange(store.n_hits.size)
        parameters = track_parameters(rows, store, self.hits, self.true_layers, self.model, work)
        labels = np.empty_like(self.label)
        labels[self.order] = self.label
        return Tracks(labels, parameters)
