"""The penalty for candidates that point to where no track comes from, against values by hand."""

import numpy as np
import pytest

from trackbench.fitting.vertex_prior import MAX_PENALTY, no_prior, vertex_penalty, vertex_prior

# One vertex at 1.05 mm, in the middle of a bin of 0.1 mm.
ONE = vertex_prior(np.full(40, 1.05))


@pytest.mark.parametrize(
    ("width", "distance", "expected"),
    [
        (0.4, 0.0, 0.0),
        (0.4, 0.8, 4.0),  # two widths of a normal distribution: 2 ln(f0 / f) = 4
        (0.4, -0.4, 1.0),
        (0.8, 0.8, 1.0),
        (1.6, -2.4, 2.25),
        (0.4, 3.0, MAX_PENALTY),  # 56 by the formula
    ],
)
def test_penalty_falls_off_as_the_resolution(width, distance, expected):
    # The smallest width of the table that is not below sigma is used.
    for sigma in (width, 0.9 * width):
        assert vertex_penalty(1.05 + distance, sigma, ONE) == pytest.approx(expected, abs=1e-6)


def test_widths_end_with_the_largest():
    assert vertex_penalty(1.05 + 3.2, 50.0, ONE) == pytest.approx(1.0, abs=1e-6)


def test_outside_the_table_the_penalty_is_that_at_its_edge():
    for z0 in (-1e4, -200.0, 200.0, 1e4):
        assert vertex_penalty(z0, 0.1, ONE) == MAX_PENALTY


def test_typical_is_the_median_over_tracks():
    # 30 tracks at 0.05 mm, 10 at 20.05 mm: the smaller vertex costs 2 ln 3, the larger one nothing.
    prior = vertex_prior(np.repeat([0.05, 20.05], [30, 10]))
    assert vertex_penalty(0.05, 0.4, prior) == 0.0
    assert vertex_penalty(20.05, 0.4, prior) == pytest.approx(2 * np.log(3))
    turned = vertex_prior(np.repeat([0.05, 20.05], [10, 30]))  # better than typical is not rewarded
    assert vertex_penalty(20.05, 0.4, turned) == 0.0


def test_a_flat_beam_spot_costs_nothing_inside():
    prior = vertex_prior(np.arange(-50.0, 50.0, 0.1) + 0.05)
    assert max(vertex_penalty(z0, 0.2, prior) for z0 in np.linspace(-45, 45, 50)) < 1e-6
    assert vertex_penalty(53.0, 0.2, prior) == MAX_PENALTY


@pytest.mark.parametrize("n", [0, 1, 19])
def test_few_tracks_give_no_penalty(n):
    prior = vertex_prior(np.linspace(-5.0, 5.0, n))
    assert [vertex_penalty(z0, sigma, prior) for z0 in (-1e3, 0.0, 1e3) for sigma in (0.01, 10.0)] == [0.0] * 6


def test_no_prior_never_penalises():
    assert vertex_penalty(1e6, 1e3, no_prior()) == 0.0
