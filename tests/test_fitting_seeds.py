"""Seeds of prompt and displaced tracks, and following them, on events whose tracks are known."""

import fitting_toys as toys
import naive_fitting as naive
import numpy as np
import pytest

from trackbench.fitting.competition import new_store
from trackbench.fitting.gls import fit
from trackbench.fitting.helix import circle, from_two_hits
from trackbench.fitting.tables import new_work
from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers import helix_displaced, helix_following, helix_seeds

LAYERS = toys.pixel_layers()
MODEL = toys.model()
CUTS = helix_seeds.SeedCuts(max_k=2.0, max_z0=18.0, max_chi2=20.0, n_second=2)
DISPLACED = helix_displaced.DisplacedCuts(max_k=1.3, max_d0=10.0, max_z0=100.0, max_kink=0.005)
FOLLOWING = helix_following.Following(max_seed_chi2=30.0, max_missing=1, min_layers=4, free_d0=False)


def planted(n, seed, n_noise=400, min_layers=4, **limits):
    """Return tracks on at least so many layers, the event with noise, and the rows of the hits of each track."""
    rng = np.random.default_rng(seed)
    limits = {"pt": (0.8, 20.0), "eta": (-3.2, 3.2), "max_d0": 0.03, **limits}
    tracks = []
    while len(tracks) < n:
        p = toys.random_track(rng, **limits)
        if len(toys.crossed_layers(p, LAYERS)) >= min_layers:
            tracks.append(p)
    groups = [toys.track_hits(p, LAYERS, None, rng, smear=0.012) for p in tracks]
    hits, rows = toys.together(*groups, toys.noise_hits(rng, LAYERS, n_noise))
    return tracks, hits, rows[:-1]


def prompt_seeds(i, hits, cuts=CUTS, used=None):
    """Return the prompt seeds (n, 3) that start with hit i."""
    used = np.zeros(len(hits.r), bool) if used is None else used
    seeds = np.zeros((4096, 3), np.int64)
    state = (hits, LAYERS, MODEL, cuts, used, np.zeros(5), np.zeros(4), np.zeros(4, np.int64), seeds)
    return seeds[: helix_seeds.seeds_from(i, *state)]


def displaced_seeds(i, hits, cuts=DISPLACED, used=None):
    """Return the displaced seeds (n, 3) that start with hit i."""
    used = np.zeros(len(hits.r), bool) if used is None else used
    seeds = np.zeros((4096, 3), np.int64)
    state = (hits, LAYERS, cuts, used, np.zeros(4, np.int64), seeds)
    return seeds[: helix_displaced.displaced_seeds_from(i, *state)]


def lines_layers(r, z, origin, own, tolerance):
    """Layers that a line crosses outside r, by sorting all crossings; those too close to the one before left out."""
    slope, crossings = (z - origin) / r, []
    for layer in range(toys.N_PIXEL):
        position, low, high = LAYERS.position[layer], LAYERS.low[layer], LAYERS.high[layer]
        if LAYERS.barrel[layer]:
            if low - tolerance < origin + slope * position < high + tolerance:
                crossings.append((position, 2.0, layer))
        elif abs(slope) >= 0.3 and (position - z) * slope > 0:
            at, margin = (position - origin) / slope, tolerance / abs(slope)
            if low - margin < at < high + margin:
                crossings.append((at, 0.5, layer))
    found, last = [], r
    for at, least, layer in sorted(crossings):
        if layer != own and at > last + least:
            found.append(layer)
            last = at
    return found


def test_next_layers_are_those_of_the_straight_line():
    rng, near, lengths = np.random.default_rng(0), np.zeros(5, np.int64), []
    noise = toys.noise_hits(rng, LAYERS, 300)
    for r, z, layer in zip(noise.r, noise.z, noise.layer, strict=True):
        origin, tolerance = rng.choice([0.0, 12.0, -50.0]), rng.choice([2.0, 18.0])
        expected = lines_layers(r, z, origin, layer, tolerance)
        for wanted in (1, 2, 4):
            n = helix_seeds.next_layers(r, z, origin, layer, LAYERS, tolerance, near, wanted)
            assert near[:n].tolist() == expected[:wanted]
        lengths.append(len(expected))
    assert min(lengths) == 0 and max(lengths) > 4


@pytest.mark.parametrize("layers", [(7, 8, 9), (11, 12, 13), (7, 11, 12)])
@pytest.mark.parametrize("k", [0.4, -2.0])
def test_third_hit_variances_are_those_of_the_extrapolation(layers, k):
    p = np.array([0.0, k, 0.0, 0.0, 9.0 if 11 in layers else 1.0])
    r = np.array([33.0, 72.5, 116.3])
    out = np.zeros(4)
    helix_seeds.third_hit_variances(*r, *layers, LAYERS, MODEL, p, out)
    angle2 = [naive.scattering_angle2(layer, LAYERS, p) for layer in layers[:2]]
    pipe = (0.0136 * abs(k)) ** 2 * MODEL.pipe / naive.sine_theta(p)
    scattering = naive.scattering_covariance(r, [22.0, *r[:2]], [pipe, *angle2])
    sigma_t, sigma_l = np.array([naive.sensor_sigmas(layer, LAYERS, p) for layer in layers]).T
    # Linear extrapolation in r of phi and of z, as weights of the displacements across the three layers [mm].
    f = (r[2] - r[1]) / (r[1] - r[0])
    across, along = np.array([f / r[0], -(1 + f) / r[1], 1 / r[2]]) * r[2], np.array([f, -1 - f, 1.0])
    from_d0 = MODEL.sigma_d0 * across.sum()  # d0 moves every hit across by as much
    assert out[0] == pytest.approx(across @ (scattering + np.diag(sigma_t**2)) @ across + from_d0**2, rel=1e-9)
    assert out[1] == pytest.approx(along @ (scattering + np.diag(sigma_l**2)) @ along, rel=1e-9)


@pytest.mark.parametrize("phi0", [None, np.pi])
def test_every_prompt_track_is_seeded_from_its_first_hit(phi0):
    tracks, hits, rows = planted(50, 1)
    if phi0 is not None:  # all in a narrow jet across the cut at pi
        groups = [toys.track_hits(np.array([phi0 + 0.01 * np.sin(i), *p[1:]]), LAYERS) for i, p in enumerate(tracks)]
        hits, rows = toys.together(*groups)
    missing = [
        p for p, row in zip(tracks, rows, strict=True) if row[:3].tolist() not in prompt_seeds(row[0], hits).tolist()
    ]
    assert missing == []


def test_prompt_seeds_keep_the_cuts():
    _, hits, rows = planted(60, 2, n_noise=3000)
    used, seen = np.random.default_rng(0).random(len(hits.r)) < 0.1, 0
    for row in rows:
        for i, j, m in prompt_seeds(row[0], hits, used=used):
            p = np.zeros(5)
            from_two_hits(hits.phi[i], hits.r[i], hits.z[i], hits.phi[j], hits.r[j], hits.z[j], p)
            assert i == row[0] and not used[j] and not used[m]
            assert hits.r[i] < hits.r[j] < hits.r[m] and len({*hits.layer[[i, j, m]]}) == 3
            assert abs(p[1]) < CUTS.max_k and abs(p[3]) < CUTS.max_z0
            # The third hit lies where the track through the others arrives, by a few of its errors.
            measured = naive.Measured(*(column[[m]] for column in (hits.r, hits.phi, hits.z, hits.layer)))
            variances = np.zeros(4)
            three = hits.r[[i, j, m]], hits.layer[[i, j, m]]
            helix_seeds.third_hit_variances(*three[0], *three[1], LAYERS, MODEL, p, variances)
            across, along = (value[0] for value in naive.residuals(measured, p))
            turn = (CURVATURE * abs(p[1]) * hits.r[m]) ** 3 / 3.0 * hits.r[m]
            path = (CURVATURE * abs(p[1]) * hits.r[m]) ** 2 / 6.0 * hits.r[m] * abs(p[4]) * naive.sine_theta(p)
            assert abs(across) < 1.2 * np.sqrt(CUTS.max_chi2 * variances[0]) + turn
            assert abs(along) < 1.2 * np.sqrt(CUTS.max_chi2 * variances[1]) + path
            seen += 1
    assert seen > 50


def test_a_lost_hit_is_skipped_by_the_seed():
    p = np.array([0.3, 0.5, 0.0, 1.0, 0.4])  # four barrel layers
    for lost in (1, 2):
        hits, (rows,) = toys.together(toys.track_hits(p, LAYERS, [layer for layer in toys.BARREL if layer != 7 + lost]))
        assert prompt_seeds(rows[0], hits).tolist() == [rows[:3].tolist()]
    hits, (rows,) = toys.together(toys.track_hits(p, LAYERS, [7, 9, 10]))
    assert len(prompt_seeds(rows[0], hits, CUTS._replace(n_second=1))) == 0


def test_no_seeds_without_enough_layers():
    hits, (rows,) = toys.together(toys.track_hits(np.array([0.3, 0.5, 0.0, 1.0, 0.4]), LAYERS, [9, 10]))
    assert len(prompt_seeds(rows[0], hits)) == 0 and len(prompt_seeds(rows[1], hits)) == 0
    assert len(displaced_seeds(rows[0], hits)) == 0 and len(displaced_seeds(rows[1], hits)) == 0


def test_seeds_stop_at_the_room_they_have():
    p = np.array([0.3, 0.5, 0.0, 1.0, 0.4])
    many = [toys.track_hits(p, LAYERS, [9], np.random.default_rng(i), smear=0.01) for i in range(20)]
    hits, (rows, *_) = toys.together(toys.track_hits(p, LAYERS, [7, 8]), *many)
    assert len(prompt_seeds(rows[0], hits)) == 20
    seeds = np.zeros((5, 3), np.int64)
    state = (np.zeros(len(hits.r), bool), np.zeros(5), np.zeros(4), np.zeros(4, np.int64), seeds)
    assert helix_seeds.seeds_from(rows[0], hits, LAYERS, MODEL, CUTS, *state) == 5
    state = (np.zeros(len(hits.r), bool), np.zeros(4, np.int64), seeds)
    assert helix_displaced.displaced_seeds_from(rows[0], hits, LAYERS, DISPLACED, *state) == 5


def test_displaced_tracks_are_seeded_from_their_first_hit():
    tracks, hits, rows = planted(80, 3, pt=(0.9, 20.0), max_d0=6.5, eta=(-2.5, 2.5))
    found = [row[:3].tolist() in displaced_seeds(row[0], hits).tolist() for row in rows]
    assert max(abs(p[2]) for p in tracks) > 6
    assert all(found), [p for p, good in zip(tracks, found, strict=True) if not good]


def test_displaced_seeds_keep_the_cuts():
    tracks, hits, rows = planted(60, 4, max_d0=20.0, eta=(-2.0, 2.0), n_noise=2000)
    used = np.random.default_rng(0).random(len(hits.r)) < 0.1
    for p, row in zip(tracks, rows, strict=True):
        seeds = displaced_seeds(row[0], hits, used=used)
        assert not used[seeds[:, 1:]].any()
        if abs(p[2]) > 12 or abs(p[1]) > 1.5:
            assert row[:3].tolist() not in seeds.tolist()
        for i, j, m in seeds:
            d0 = circle(hits.r[i], hits.phi[i], hits.r[j], hits.phi[j], hits.r[m], hits.phi[m])[1]
            assert abs(d0) < DISPLACED.max_d0
            path = np.sqrt(hits.r[[i, j, m]] ** 2 - d0**2)
            slope = (hits.z[j] - hits.z[i]) / (hits.r[j] - hits.r[i])
            line = hits.z[j] + (hits.z[j] - hits.z[i]) / (path[1] - path[0]) * (path[2] - path[1])
            kink = abs(hits.z[m] - line) / np.hypot(1, slope)
            assert kink < DISPLACED.max_kink * (hits.r[m] - hits.r[j]) + 0.1
            assert abs(hits.z[i] - slope * hits.r[i]) < DISPLACED.max_z0 and hits.r[i] < hits.r[j] < hits.r[m]


@pytest.mark.parametrize("phi0", [0.2, 3.13, -3.13])
@pytest.mark.parametrize(("k", "d0"), [(0.7, 2.0), (-1.0, -5.0), (0.0, 0.0)])
def test_circle_through_three_hits_to_first_order(phi0, k, d0):
    r = np.array([33.0, 72.5, 116.3])
    phi = naive.wrapped(phi0 - CURVATURE * k * r + d0 / r)
    found = circle(r[0], phi[0], r[1], phi[1], r[2], phi[2])
    assert found == pytest.approx((k, d0), abs=1e-9)


class Follower:
    """What following needs besides seeds."""

    def __init__(self, hits, size=200):
        self.hits, self.work, self.store = hits, new_work(), new_store(size)
        self.used, self.owner = np.zeros(len(hits.r), bool), np.full(len(hits.r), -1)

    def follow(self, seeds, following=FOLLOWING, model=MODEL, first=0):
        state = (self.hits, LAYERS, model, following, self.used, self.owner, self.work, self.store, first)
        return helix_following.follow_seeds(np.array(seeds, np.int64), len(seeds), *state)

    def rows(self, i):
        return set(self.store.hits[i, : self.store.n_hits[i]].tolist())


@pytest.mark.parametrize(("max_d0", "model"), [(0.03, MODEL), (5.0, toys.model(sigma_d0=3.0))])
def test_following_completes_tracks_from_any_three_hits(max_d0, model):
    tracks, hits, rows = planted(40, 5, max_d0=max_d0)
    rng, follower = np.random.default_rng(0), Follower(hits)
    picked = [np.sort(rng.permutation(len(row))[:3]) for row in rows]
    assert follower.follow([row[some] for row, some in zip(rows, picked, strict=True)], model=model) <= len(rows)
    found = [follower.rows(i) for i in range(len(rows))]
    complete = [set(row.tolist()) in found for row in rows]
    assert np.mean(complete) > 0.9, [p for p, good in zip(tracks, complete, strict=True) if not good]


def test_seeds_are_skipped_inside_candidates_and_rejected_by_chi2_and_layers():
    _, hits, (row,) = planted(1, 6, n_noise=0)
    follower = Follower(hits)
    assert follower.follow([row[:3]]) == 1 and follower.follow([row[:3], row[1:4]], first=1) == 3
    follower.owner[row[:3]] = 7
    assert follower.follow([row[:3], row[1:4]]) == 1  # the second seed has a hit of nobody's
    follower.owner[row[0]] = 6
    assert follower.follow([row[:3]]) == 1  # of two candidates
    follower.owner[:] = -1
    assert follower.follow([row[:3]], FOLLOWING._replace(max_seed_chi2=1e-9)) == 0
    assert follower.follow([row[:3]], FOLLOWING._replace(min_layers=len(row) + 1)) == 0
    assert follower.follow([row[:3]], FOLLOWING._replace(min_layers=len(row))) == 1


@pytest.mark.parametrize(
    ("gone", "max_missing", "expected"),
    [((), 0, 7), ((15,), 0, 4), ((15,), 1, 6), ((15, 17), 1, 5), ((14, 15), 1, 3), ((14, 15), 2, 5)],
)
def test_following_stops_after_missing_layers(gone, max_missing, expected):
    p = np.array([0.4, 0.5, 0.0, 2.0, np.sinh(3.45)])  # crosses the disks 11 .. 17 only
    there = toys.track_hits(p, LAYERS, [layer for layer in toys.DISKS_PLUS if layer not in gone])
    elsewhere = toys.track_hits(p, LAYERS, gone)  # a layer without any hit would not count as missing one
    hits, (rows, _) = toys.together(there, elsewhere._replace(phi=elsewhere.phi + 1.0))
    index, work, out = toys.candidate(rows[:3]), new_work(), np.zeros(4)
    fit(index, 3, hits, LAYERS, MODEL, p, work, 2)
    used = np.zeros(len(hits.r), bool)
    n = helix_following.follow(index, 3, hits, LAYERS, MODEL, p, work, used, max_missing, out)
    assert index[:n].tolist() == rows[:expected].tolist()


def test_the_next_layer_is_the_nearest():
    groups = toys.track_hits(np.array([0.3, 0.5, 0.0, 1.0, 0.4]), LAYERS, toys.BARREL)  # at 33, 73, 116, 172 mm
    hits, (rows,) = toys.together(groups)

    def order(hits, *candidate):
        p, work = np.array([0.3, 0.5, 0.0, 1.0, 0.4]), new_work()
        fit(toys.candidate(np.array(candidate)), len(candidate), hits, LAYERS, MODEL, p, work, 1)
        tried, found = sum(1 << hits.layer[row] for row in candidate), []
        while (layer := helix_following.nearest_layer(tried, len(candidate), hits, LAYERS, p, work)) >= 0:
            found.append(layer)
            tried |= 1 << layer
        return found

    assert order(hits, rows[1], rows[2]) == [7, 10]
    assert order(hits, rows[0], rows[1]) == [9, 10]
    assert order(hits, rows[0], rows[3]) == [8, 9]  # gaps, in the order of the layers
    assert order(hits, rows[0], rows[2]) == [8, 10]
    few, (some,) = toys.together(groups.without(3))
    assert order(few, some[0], some[1]) == [9]  # nothing to find on a layer without hits


@pytest.mark.parametrize("size", [30, 200])
def test_a_full_store_is_continued_where_it_stopped(size):
    _, hits, _ = planted(40, 7)
    whole, begin = Follower(hits, 4096), 0
    state = (hits, LAYERS, LAYERS, MODEL, CUTS, FOLLOWING)
    end, n = helix_following.follow_prompt(0, len(hits.r), *state, whole.used, whole.owner, whole.work, whole.store)
    assert end == len(hits.r) and n > 40
    tracks, calls = [], 0
    while begin < len(hits.r):
        part = Follower(hits, size)
        begin, m = helix_following.follow_prompt(
            begin, len(hits.r), *state, part.used, part.owner, part.work, part.store
        )
        tracks.append(part.store.tracks[:m])
        calls += 1
    assert calls > 1
    np.testing.assert_array_equal(np.concatenate(tracks), whole.store.tracks[:n])


def test_nothing_to_follow():
    hits, _ = toys.together(toys.noise_hits(np.random.default_rng(0), LAYERS, 0))
    follower = Follower(hits, 10)
    tail = (FOLLOWING, follower.used, follower.owner, follower.work, follower.store)
    assert helix_following.follow_prompt(0, 0, hits, LAYERS, LAYERS, MODEL, CUTS, *tail) == (0, 0)
    assert helix_following.follow_displaced(0, 0, hits, LAYERS, LAYERS, MODEL, DISPLACED, *tail) == (0, 0)


def test_owners_are_marked_for_long_candidates():
    store, owner = new_store(3), np.full(8, -1)
    store.n_hits[:], store.n_layers[:] = [4, 3, 4], [4, 3, 4]
    store.hits[0, :4], store.hits[1, :3], store.hits[2, :4] = [0, 1, 2, 3], [4, 5, 6], [3, 4, 1, 5]
    helix_following.mark_owners(store, 10, owner, 4)
    assert owner.tolist() == [10, 12, 10, 12, 12, 12, -1, -1]
