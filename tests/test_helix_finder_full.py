"""The helix finder with strips: seeds without three pixel hits, hits behind gaps, candidates on few layers."""

import fitting_toys as toys
import numpy as np
import pytest

from trackbench.data.hits import Hits
from trackbench.fitting import candidate, competition, gls
from trackbench.fitting.helix import radius_at
from trackbench.fitting.model import N_PIXEL_LAYERS, detector_layers, sort_hits
from trackbench.fitting.tables import NO_GAP_LIMIT, new_work
from trackbench.fitting.vertex_prior import no_prior
from trackbench.geometry.detector import ALL_LAYERS, CURVATURE
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers import helix_strip_seeds

LAYERS = detector_layers(pixel_only=False, search=True)
MODEL = toys.model()
CUTS = helix_strip_seeds.StripCuts(
    max_k=1.3, max_angle=0.12, max_z0=100.0, max_kink=0.005, max_chi2=9.0, n_pixel=N_PIXEL_LAYERS
)
SHORT_BARREL = tuple(i for i, (volume, _) in enumerate(ALL_LAYERS) if volume == 13)
LONG_BARREL = tuple(i for i, (volume, _) in enumerate(ALL_LAYERS) if volume == 17)
PIXEL_BARREL = toys.BARREL


def hits_of(*groups) -> Hits:
    """Return the hits of several groups, one after the other, as a tracker gets them."""
    r, phi, z, layer = (np.concatenate(column) for column in zip(*groups, strict=True))
    volume_id, layer_id = np.array(ALL_LAYERS)[layer].T
    n = len(r)
    xyz = np.column_stack([r * np.cos(phi), r * np.sin(phi), z])
    return Hits(np.arange(n), xyz, volume_id, layer_id, np.ones(n, np.int64), np.ones(n, bool))


def secondaries(n, seed, born=(120.0, 250.0), eta=1.0):
    """Draw tracks that leave a point at radius ``born`` within 5 degrees of the radial direction; hits beyond it."""
    rng = np.random.default_rng(seed)
    tracks, groups = [], []
    while len(tracks) < n:
        radius, cot = rng.uniform(*born), np.sinh(rng.uniform(-eta, eta))
        k = rng.choice([-1.0, 1.0]) / rng.uniform(0.9, 8.0)
        # Flying outwards at an angle a to the radial direction: d0 = radius (sin a + half the turn) to first order.
        d0 = radius * (np.sin(rng.normal(0, 0.03)) + CURVATURE * k * radius)
        p = np.array([rng.uniform(-np.pi, np.pi), k, d0, rng.uniform(-20, 20), cot])
        on = [layer for layer in toys.crossed_layers(p, LAYERS) if crossing_radius(layer, p) > radius]
        if abs(d0) < 0.1 * radius and len(on) >= 6:
            tracks.append(p)
            groups.append(toys.track_hits(p, LAYERS, on, rng, smear=0.01))
    return tracks, groups


def crossing_radius(layer, p) -> float:
    """Radius at which a track crosses a layer [mm]."""
    if LAYERS.barrel[layer]:
        return LAYERS.position[layer]
    return radius_at((LAYERS.position[layer] - p[3]) / p[4], p)


def place(order):
    """Return where each hit is after sorting."""
    return np.argsort(order)


def seeds_of(i, hits, used=None, room=4096):
    """Return the seeds (n, 3) that start with sorted hit i."""
    used = np.zeros(len(hits.r), bool) if used is None else used
    seeds = np.zeros((room, 3), np.int64)
    n = helix_strip_seeds.strip_seeds_from(i, hits, LAYERS, CUTS, used, np.zeros(5), np.zeros(4, np.int64), seeds)
    return seeds[:n]


def test_line_tolerance_by_hand():
    layers = LAYERS._replace(sigma_l=np.full(48, 0.3), sharing=np.zeros(48))
    p = np.array([0.0, 0.0, 0.0, 0.0, 0.75])  # sin(theta) = 0.8, cos(theta) = 0.6
    radii = (100.0, 200.0, 300.0)
    cuts = CUTS._replace(max_kink=0.01)
    barrel = helix_strip_seeds.line_tolerance(*radii, *SHORT_BARREL[:3], layers, cuts, p)
    # f = 1: sigma^2 (1 + 4 + 1), three times that, plus 0.01 x 100 mm
    assert barrel == pytest.approx(3 * 0.3 * 0.8 * np.sqrt(6.0) + 1.0, rel=1e-12)
    disks = [i for i, (volume, _) in enumerate(ALL_LAYERS) if volume == 14]
    assert helix_strip_seeds.line_tolerance(*radii, *disks[:3], layers, cuts, p) == pytest.approx(
        3 * 0.3 * 0.6 * np.sqrt(6.0) + 1.0, rel=1e-12
    )


def test_tracks_born_outside_the_pixels_are_seeded_from_their_first_strip():
    tracks, groups = secondaries(60, seed=1, born=(185.0, 250.0))
    order, hits = sort_hits(hits_of(*groups))
    rows = np.split(place(order), np.cumsum([len(g.r) for g in groups])[:-1])
    found = [row[:3].tolist() in seeds_of(row[0], hits).tolist() for row in rows]
    assert max(abs(p[2]) for p in tracks) > 10.0
    assert np.mean(found) > 0.95, [p for p, good in zip(tracks, found, strict=True) if not good]


def test_strip_seeds_keep_the_cuts():
    _, groups = secondaries(40, seed=2)
    noise = toys.noise_hits(np.random.default_rng(3), LAYERS, 4000)
    _, hits = sort_hits(hits_of(*groups, noise))
    used = np.random.default_rng(4).random(len(hits.r)) < 0.1
    n_seeds = 0
    for i in np.flatnonzero((hits.layer >= 9) & (hits.r < 400))[:1500]:
        for first, j, m in seeds_of(i, hits, used):
            assert first == i and not used[j] and not used[m]
            assert hits.layer[m] >= N_PIXEL_LAYERS and len({*hits.layer[[i, j, m]]}) == 3
            assert hits.r[i] + 5 <= hits.r[j] <= hits.r[m] - 5
            k, d0 = circle_of(hits.r[[i, j, m]], hits.phi[[i, j, m]])
            assert abs(k) < CUTS.max_k + 0.03 and abs(d0) < CUTS.max_angle * hits.r[i] + 1.0
            n_seeds += 1
    assert n_seeds > 100


def circle_of(r, phi):
    """Return (k, d0) of the circle through three points, exactly: from its centre, by linear algebra."""
    x, y = r * np.cos(phi), r * np.sin(phi)
    rows = 2 * np.array([[x[1] - x[0], y[1] - y[0]], [x[2] - x[0], y[2] - y[0]]])
    centre = np.linalg.solve(rows, np.array([r[1] ** 2 - r[0] ** 2, r[2] ** 2 - r[0] ** 2]))
    radius = np.hypot(x[0] - centre[0], y[0] - centre[1])
    return 1.0 / (2 * CURVATURE * radius), np.hypot(*centre) - radius


def test_a_strip_seed_ends_on_a_strip():
    p = np.array([0.3, 0.5, 0.0, 1.0, 0.4])
    on = [*PIXEL_BARREL, SHORT_BARREL[0]]
    order, hits = sort_hits(hits_of(toys.track_hits(p, LAYERS, on)))
    rows = place(order)
    # The third hit is looked for on the next two layers: one pixel hit may be passed over, not two.
    expected = [[], [[1, 2, 4]], [[2, 3, 4]], []]
    assert [seeds_of(row, hits).tolist() for row in rows[:4]] == [[rows[seed].tolist() for seed in e] for e in expected]


def test_a_lost_strip_is_skipped_and_used_hits_are_left_alone():
    p = np.array([0.3, 0.5, 3.0, 1.0, 0.4])
    strips = (*SHORT_BARREL, LONG_BARREL[0])
    order, hits = sort_hits(hits_of(toys.track_hits(p, LAYERS, strips)))
    rows = place(order)
    used = np.zeros(len(rows), bool)
    used[rows[1]] = True
    assert seeds_of(rows[0], hits, used).tolist() == [rows[[0, 2, 3]].tolist()]
    used[rows[1]], used[rows[2]] = False, True
    assert seeds_of(rows[0], hits, used).tolist() == [rows[[0, 1, 3]].tolist()]


def test_seeds_stop_at_the_room_they_have():
    p = np.array([0.3, 0.5, 3.0, 1.0, 0.4])
    many = [toys.track_hits(p, LAYERS, SHORT_BARREL[2:3], np.random.default_rng(i), smear=0.01) for i in range(9)]
    order, hits = sort_hits(hits_of(toys.track_hits(p, LAYERS, SHORT_BARREL[:2]), *many))
    first = place(order)[0]
    assert len(seeds_of(first, hits)) == 9 and len(seeds_of(first, hits, room=4)) == 4


def fitted(on, p, max_gap, min_layers=3):
    """Fit the hits of a track on some layers and trim them. Returns the number left, chi2, and the layers."""
    order, hits = sort_hits(hits_of(toys.track_hits(p, LAYERS, on)))
    index, work, track = toys.candidate(place(order)), new_work(), p.copy()
    model = MODEL._replace(max_gap=max_gap)
    chi2 = gls.fit(index, len(on), hits, LAYERS, model, track, work, 2)
    n, chi2 = candidate.trim(index, len(on), chi2, hits, LAYERS, model, track, work, min_layers)
    return n, chi2, hits.layer[index[:n]].tolist()


@pytest.mark.parametrize(("lost", "max_gap", "kept"), [(3, 2, False), (3, 3, True), (2, 2, True), (2, 1, False)])
def test_a_hit_behind_too_many_empty_layers_is_dropped(lost, max_gap, kept):
    p = np.array([0.3, 0.5, 0.0, 1.0, 0.2])
    on = [*PIXEL_BARREL, (*SHORT_BARREL, *LONG_BARREL)[lost]]
    n, chi2, layers = fitted(on, p, max_gap)
    assert layers == (on if kept else on[:4]) and n == len(layers)
    assert chi2 < 1.0


def test_trimming_fails_on_too_few_layers_and_can_be_turned_off():
    p = np.array([0.3, 0.5, 0.0, 1.0, 0.2])
    on = [*PIXEL_BARREL[:2], SHORT_BARREL[3], LONG_BARREL[1]]
    assert fitted(on, p, 0)[0] == 3  # never fewer: fits need three hits
    assert fitted(on, p, 0, min_layers=4)[1] == candidate.FAILED
    assert fitted(on, p, NO_GAP_LIMIT)[0] == 4


@pytest.mark.parametrize(
    ("holes", "beyond", "accepted"), [(0, 3, True), (0, 4, True), (1, 3, True), (1, 4, False), (2, 0, False)]
)
def test_four_layers_are_judged_with_holes_and_end(holes, beyond, accepted):
    store = competition.new_store(1)
    store.n_layers[0], store.n_hits[0], store.chi2[0], store.holes[0], store.beyond[0] = 4, 4, 10.0, holes, beyond
    rules = competition.Rules(16.0, 6.0, 10.0, 4, 14.0, 24.0, 9.0, 7.5, 4.0, hole_chi2_4=9.0, stop_chi2=6.0)
    prior = no_prior()
    assert competition.acceptable(0, store, rules, prior) is accepted  # 10 + 9 holes + 6 if it ends, at most 24
    store.n_layers[0] = 5
    assert competition.acceptable(0, store, rules, prior)


def test_the_finder_follows_prompt_tracks_into_the_strips_and_finds_secondaries():
    rng = np.random.default_rng(5)
    prompt = [toys.random_track(rng, pt=(0.9, 20.0), eta=(-1.2, 1.2), max_d0=0.02) for _ in range(30)]
    groups = [toys.track_hits(p, LAYERS, None, rng, smear=0.01) for p in prompt]
    late = secondaries(20, seed=6, born=(120.0, 250.0), eta=0.9)[1]
    hits = hits_of(*groups, *late)
    found = build_tracker("helix_finder", {}).reconstruct_tracks(hits)
    edges = np.cumsum([len(g.r) for g in groups + late])[:-1]
    pure = [len({*labels.tolist()}) == 1 and labels[0] >= 0 for labels in np.split(found.labels, edges)]
    assert np.mean(pure[:30]) > 0.9 and np.mean(pure[30:]) > 0.8
    assert len(found.parameters) == found.labels.max() + 1
    without = build_tracker("helix_finder", {"max_d0": 0.0}).reconstruct(hits)
    assert (without[edges[29] :] >= 0).mean() < 0.5  # no search for displaced tracks, so none with few pixel hits


@pytest.mark.slow
def test_double_majority_in_the_full_detector(tmp_path):
    """The target of the full detector on events of 100 collisions, seed not used in tuning."""
    pytest.importorskip("acts", reason="the extra 'simulate' is not installed")
    pytest.importorskip("pythia8mc", reason="the extra 'simulate' is not installed")
    from trackbench.data.prepare import DataSelection, build_event
    from trackbench.data.reader import read_event
    from trackbench.evaluation.metrics import evaluate_event
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.simulate import simulate

    simulate(SimulationConfig(pileup=100, seed=77), [1], tmp_path, cache_dir=tmp_path / "cache")
    hits, truth, particles = read_event(str(tmp_path / "event000000001"), ("hits", "truth", "particles"))
    event, known = build_event((hits, particles, truth), DataSelection(detector="full"))
    found = build_tracker("helix_finder", {}).reconstruct_tracks(event)
    result = evaluate_event(found.labels, known, parameters=found.parameters)
    assert result.value("dm") > 0.95
    assert result.value("fake_rate") < 0.01 and result.value("fake_all_pt") < 0.05
    strips = hits.merge(truth, on="hit_id").query("particle_id > 0 and (tpx ** 2 + tpy ** 2) > 0.81")
    check_resolutions(strips)


def check_resolutions(hits):
    """Distance of strips from the true track, across it in the transverse plane, and along the sensor."""
    pt = np.hypot(hits["tpx"], hits["tpy"])
    dx, dy, dz = (hits[name] - hits["t" + name] for name in "xyz")
    across = (dy * hits["tpx"] - dx * hits["tpy"]) / pt
    along = {True: dz, False: (dx * hits["tx"] + dy * hits["ty"]) / np.hypot(hits["tx"], hits["ty"])}
    layers = detector_layers(pixel_only=False)
    for volume in (12, 13, 14, 16, 17, 18):
        chosen = hits["volume_id"] == volume
        layer = ALL_LAYERS.index((volume, 2))
        assert np.std(across[chosen]) == pytest.approx(layers.sigma_t[layer], rel=0.2), volume
        assert np.std(along[volume in (13, 17)][chosen]) == pytest.approx(layers.sigma_l[layer], rel=0.2), volume
