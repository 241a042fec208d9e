"""Matching of queries and tracks: tracks of a group, costs against a slow twin, optimal and fast solving."""

import itertools
import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trackbench.trackers.layers.hept_decoder import Decoded, Level  # noqa: E402
from trackbench.training import matching  # noqa: E402
from trackbench.training.hept_config import HeptLossConfig  # noqa: E402
from trackbench.training.matching import Matcher, hits_of, pair_costs, solve, tracks_of_groups  # noqa: E402

CONFIG = HeptLossConfig(class_weight=0.7, focal_weight=30.0, dice_weight=2.0)


def toy_decoded(seed=0, n_hits=(9, 6), n_queries=5, levels=3, pad=2):
    """Random outputs of a decoder, one group per event, padded by ``pad`` places and one query that is none."""
    torch.manual_seed(seed)
    groups, size, dim = len(n_hits), max(n_hits) + pad, 4
    places = torch.full((groups, size), -1)
    for group, n in enumerate(n_hits):
        places[group, :n] = torch.randperm(n)
    valid = torch.ones(groups, n_queries + 1, dtype=torch.bool)
    valid[:, 2] = False
    made = [
        Level(torch.randn(groups, n_queries + 1, 2), torch.randn(groups, n_queries + 1, dim)) for _ in range(levels)
    ]
    hits, seeds = torch.randn(groups, size, dim), torch.full((groups, n_queries + 1), -1)
    return Decoded(tuple(made), hits, torch.tensor(-0.3), valid, places, torch.arange(groups), seeds)


def toy_truth(n_hits=(9, 6), size=11):
    """Particle and flag of each place of each event: three tracks and noise, and one particle that is no track."""
    particle = torch.full((len(n_hits), size), -1)
    for event, n in enumerate(n_hits):
        particle[event, :n] = torch.tensor([3, 3, 7, 0, -1, 3, 7, 4, 0])[:n]
    return particle, (particle >= 0) & (particle != 4)


def slow_cost(decoded, group, query, members):
    """Cost of one pair from the formulas, in float64. members: places in the group of the hits of the track."""
    n = int((decoded.places[group] >= 0).sum())
    level, loss, sums = decoded.levels[-1], 0.0, np.zeros(3)
    for hit in range(n):
        x = float(level.queries[group, query].double() @ decoded.hits[group, hit].double() + decoded.offset.double())
        p, t = 1 / (1 + np.exp(-x)), float(hit in members)
        loss += -0.25 * (1 - p) ** 2 * np.log(p) * t - 0.75 * p**2 * np.log(1 - p) * (1 - t)
        sums += (p * t, p, t)
    dice = 1 - (2 * sums[0] + 1) / (sums[1] + sums[2] + 1)
    odds = np.exp(level.classes[group, query].double().numpy())
    return CONFIG.class_weight * -odds[0] / odds.sum() + CONFIG.focal_weight * loss / n + CONFIG.dice_weight * dice


def members_of(decoded, group, particle, track):
    """Places in the group of the hits of each track, by number of particle."""
    found = {}
    for place, hit in enumerate(decoded.places[group].tolist()):
        if hit >= 0 and track[group, hit]:
            found.setdefault(int(particle[group, hit]), []).append(place)
    return [found[number] for number in sorted(found)]


def test_hits_of_numbers():
    places, there = hits_of(torch.tensor([5, -1, 2, 5, 5, 2, 9]))
    assert [row[mask].tolist() for row, mask in zip(places, there, strict=True)] == [[2, 5], [0, 3, 4], [6]]
    for nothing in (torch.zeros(0, dtype=torch.int64), torch.tensor([-1, -1])):
        assert [part.shape for part in hits_of(nothing)] == [(0, 0), (0, 0)]


def test_tracks_of_groups_are_the_particles_with_hits_there():
    decoded, (particle, track) = toy_decoded(), toy_truth()
    for group, found in enumerate(tracks_of_groups(decoded, particle, track)):
        expected = members_of(decoded, group, particle, track)
        assert [row[mask].tolist() for row, mask in zip(found.places, found.there, strict=True)] == expected
        assert found.n_hits == (9, 6)[group]


def test_a_hit_of_another_sector_is_not_of_the_group():
    decoded, (particle, track) = toy_decoded(n_hits=(9,)), toy_truth((9,))
    half = decoded._replace(places=torch.where(decoded.places < 3, decoded.places, -1).sort(descending=True).values)
    (found,) = tracks_of_groups(half, particle, track)
    assert found.there.sum(1).tolist() == [2, 1]  # particles 3 and 7 have hits 0, 1 and 2; particle 0 has none


@pytest.mark.parametrize("at_once", [2**22, 1, 20])
def test_costs_are_those_of_the_formulas(monkeypatch, at_once):
    monkeypatch.setattr(matching, "_AT_ONCE", at_once)
    decoded, (particle, track) = toy_decoded(), toy_truth()
    for group, found in enumerate(tracks_of_groups(decoded, particle, track)):
        queries = decoded.valid[group].nonzero()[:, 0]
        cost = pair_costs(decoded, group, found, queries, CONFIG)
        members = members_of(decoded, group, particle, track)
        expected = [[slow_cost(decoded, group, query, places) for query in queries.tolist()] for places in members]
        np.testing.assert_allclose(cost.numpy(), expected, rtol=2e-5)


@pytest.mark.parametrize(("rows", "columns"), [(3, 6), (2, 6), (4, 5), (5, 3), (1, 1)])
@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_solving_is_optimal(rows, columns, spread):
    """By trying all matches; also with columns that are nearly constant, as when a training begins."""
    rng = np.random.default_rng(rows + columns)
    for _ in range(20):
        cost = rng.random(columns) + spread * rng.random((rows, columns))
        row, column = solve(cost)
        assert len(row) == len(set(column.tolist())) == min(rows, columns) and (np.diff(row) > 0).all()
        if rows <= columns:
            best = min(cost[np.arange(rows), list(p)].sum() for p in itertools.permutations(range(columns), rows))
        else:
            best = min(cost[list(p), np.arange(columns)].sum() for p in itertools.permutations(range(rows), columns))
        assert cost[row, column].sum() == pytest.approx(best, rel=1e-12)


def test_leaving_queries_out_loses_nothing():
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(3)
    for spread in (0.0, 1e-5, 1e-2, 1.0):
        cost = rng.random(150) + spread * rng.random((30, 150))
        row, column = linear_sum_assignment(cost)
        assert cost[solve(cost)].sum() == pytest.approx(cost[row, column].sum(), rel=1e-12)


def test_costs_that_are_not_finite_do_not_stop_the_training():
    """The loop says what is wrong with the loss; an exception of SciPy would not."""
    cost = np.full((2, 5), np.nan)
    assert len(solve(cost)[0]) == 2


def test_the_matcher_finds_the_best_pairs_of_valid_queries():
    decoded, (particle, track) = toy_decoded(), toy_truth()
    tracks = tracks_of_groups(decoded, particle, track)
    matcher = Matcher(CONFIG, most=6)
    for group, match in enumerate(matcher(decoded, tracks)):
        members = members_of(decoded, group, particle, track)
        cost = [[slow_cost(decoded, group, q, places) for q in range(6)] for places in members]
        usable = [q for q in range(6) if decoded.valid[group, q]]
        best = min(itertools.permutations(usable, len(members)), key=lambda p: sum(cost[i][q] for i, q in enumerate(p)))
        assert match.query.tolist() == list(best) and match.track.tolist() == list(range(len(members)))
    assert matcher.seconds > 0


def test_threads_change_nothing(monkeypatch):
    costs = [np.random.default_rng(seed).random((40, 90)) for seed in range(5)]
    alone = matching._solve_all(costs)
    monkeypatch.setattr(matching, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for one, other in zip(alone, matching._solve_all(costs), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_more_tracks_than_queries_is_said_once(caplog):
    decoded, (particle, track) = toy_decoded(n_queries=2), toy_truth()
    tracks = tracks_of_groups(decoded, particle, track)
    matcher = Matcher(CONFIG, most=2)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            matches = matcher(decoded, tracks)
    assert [record.getMessage() for record in caplog.records] == [
        "training: 3 tracks in a sector, expected at most 2; the others teach no query; "
        "raise network.n_queries or network.sectors."
    ]
    assert [len(match.query) for match in matches] == [2, 2]


def test_groups_without_tracks_or_queries():
    decoded, (particle, track) = toy_decoded(), toy_truth()
    for changed, flags in ((decoded, track & False), (decoded._replace(valid=decoded.valid & False), track)):
        matches = Matcher(CONFIG, 6)(changed, tracks_of_groups(changed, particle, flags))
        assert [len(match.query) for match in matches] == [0, 0]
