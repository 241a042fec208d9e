"""Targets, class bins and augmentation: by hand, against slow twins, and against exact helices."""

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_events import make_truth
from toys import CURVATURE, toy_event

from trackbench.data.hits import Hits
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.errors import ConfigError, InputError
from trackbench.training.augment import Symmetry
from trackbench.training.bins import QuantileBins
from trackbench.training.targets import Momenta, hit_targets, particle_rows, particle_targets

SYMMETRIES = {
    "turned": Symmetry(2.5),
    "flipped": Symmetry(flip=True),
    "mirrored": Symmetry(mirror=True),
    "all": Symmetry(-1.0, True, True),
}
PATHS = np.linspace(20.0, 400.0, 6)  # [mm]


def table(**columns) -> pd.DataFrame:
    """Particles numbered from 1 with the given columns, others 0."""
    n = len(next(iter(columns.values())))
    zeros = dict.fromkeys(PARTICLE_COLUMNS, np.zeros(n))
    return pd.DataFrame({**zeros, **columns, "particle_id": np.arange(1, n + 1)})[list(PARTICLE_COLUMNS)]


def truth_of(particle_id, particles) -> Truth:
    n = len(particle_id)
    return Truth(np.arange(1, n + 1), np.asarray(particle_id), np.full(n, 1 / n), particles, 7)


def random_particles(rng, n, q=(-1, 1)) -> pd.DataFrame:
    return table(
        pt=0.2 + rng.exponential(0.6, n),
        eta=rng.uniform(-3, 3, n),
        phi=rng.uniform(-np.pi, np.pi, n),
        q=rng.choice(q, n),
        vx=rng.normal(0, 5, n),
        vy=rng.normal(0, 5, n),
        vz=rng.normal(0, 20, n),
    )


def test_what_the_ceilings_need_loads_no_torch():
    modules = "trackbench.training.config, trackbench.training.targets, trackbench.training.bins"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# Targets


def test_targets_by_hand():
    particles = table(pt=[1.0, 0.4, 0.05], eta=[0.0, 1.0, -20.0], phi=[0.0, np.pi / 2, -3.0], q=[1, -1, 1])
    theta = [np.pi / 2, math.acos(math.tanh(1.0)), np.pi]
    charge = particle_targets(particles, "charge")
    assert charge.dtype == np.float32
    assert charge[:, 0] == pytest.approx(theta, abs=1e-6)
    assert charge[:, 1] == pytest.approx([0.0, 1.0, math.sin(-3)], abs=1e-6)
    assert charge[:, 2] == pytest.approx([1.0, 0.0, math.cos(-3)], abs=1e-6)
    assert charge[:, 3].tolist() == [1.0, -1.0, 1.0]
    curvature = particle_targets(particles, "q_over_pt")
    assert curvature[:, 3] == pytest.approx([0.4, -1.0, 2.0])  # the last is clipped from 8
    assert (curvature[:, :3] == charge[:, :3]).all()


def test_theta_is_that_of_the_momentum():
    """arccos(pz / |p|), to the accuracy of float32, also far forward."""
    rng = np.random.default_rng(1)
    momentum = rng.normal(0, 1, (200, 3)) * rng.choice([1.0, 30.0], (200, 3))
    pt, pz = np.hypot(momentum[:, 0], momentum[:, 1]), momentum[:, 2]
    particles = table(pt=pt, eta=np.arcsinh(pz / pt), phi=np.arctan2(momentum[:, 1], momentum[:, 0]), q=np.ones(200))
    found = particle_targets(particles, "charge")
    assert found[:, 0] == pytest.approx(np.arccos(pz / np.linalg.norm(momentum, axis=1)), abs=1e-5)
    assert found[:, 1:3] == pytest.approx(momentum[:, [1, 0]] / pt[:, None], abs=1e-6)


def test_hits_get_the_targets_of_their_particle_and_noise_none():
    particles = table(pt=[1.0, 2.0, 4.0], eta=[0.1, 0.2, 0.3], phi=[1.0, 2.0, 3.0], q=[1, 1, -1])
    truth = truth_of([3, 0, 1, 3], particles)
    found = hit_targets(truth, "charge")
    expected = particle_targets(particles, "charge")
    assert found.shape == (4, 4)
    assert (found[[0, 2, 3]] == expected[[2, 0, 2]]).all()
    assert np.isnan(found[1]).all()
    assert particle_rows(truth).tolist() == [2, -1, 0, 2]


def test_large_particle_ids_stay_apart():
    """In float32 these two would be one."""
    particles = table(pt=[1.0, 2.0], eta=[0.0, 0.0], phi=[0.0, 1.0], q=[1, 1])
    particles["particle_id"] = np.array([2**59, 2**59 + 1])
    truth = replace(truth_of([1, 1], particles), particle_id=np.array([2**59 + 1, 2**59]))
    assert particle_rows(truth).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"q": [0, 1]}, "no charge for 1 particles"), ({"pt": [1.0, 0.0]}, "no positive finite pt")],
)
def test_particles_that_cannot_be_targets_are_refused_only_with_hits(change, message):
    columns = {"pt": [1.0, 1.0], "eta": [0.0, 0.0], "phi": [0.0, 0.0], "q": [1, 1], **change}
    particles = table(**columns)
    with pytest.raises(InputError, match=message):
        hit_targets(truth_of([1, 2], particles), "q_over_pt")
    harmless = 2 if "q" in change else 1
    assert np.isfinite(hit_targets(truth_of([harmless], particles), "q_over_pt")).all()


def test_unknown_kind_and_unknown_particle_are_refused():
    particles = table(pt=[1.0], eta=[0.0], phi=[0.0], q=[1])
    with pytest.raises(ConfigError, match="'pt', expected charge or q_over_pt"):
        hit_targets(truth_of([1], particles), "pt")
    for unknown in (2, 999):
        with pytest.raises(InputError, match=f"event 7: hits of particle {unknown}"):
            hit_targets(truth_of([1, unknown], particles), "charge")


# Bins


def test_edges_hold_equal_shares_of_hits():
    """Four particles with 1, 1, 2 and 4 hits: halves of the hits, not of the particles."""
    particles = table(pt=[1.0, 2.0, 3.0, 4.0], eta=np.zeros(4), phi=[0.1, 0.2, 0.3, 0.4], q=[1, 1, 1, 1])
    truth = truth_of([1, 2, 3, 3, 4, 4, 4, 4, 0], particles)
    bins = QuantileBins.fit([truth], 2, 1, 4)
    assert bins.phi == (0.3,)
    assert bins.theta == ()
    assert bins.p == (2.0, 3.0, 4.0)
    # Positive charge: 4 + phi bin * 4 + p bin; a value on an edge is in the lower bin.
    assert bins.classes(truth).tolist() == [8, 8, 9, 9, *[14] * 4, -1]


def test_bins_are_filled_equally():
    rng = np.random.default_rng(3)
    truths = [truth_of(rng.integers(1, 401, 4000), random_particles(rng, 400)) for _ in range(5)]
    bins = QuantileBins.fit(iter(truths), 6, 5, 3)
    classes = np.concatenate([bins.classes(truth) for truth in truths])
    assert bins.shape == (6, 5, 3)
    assert bins.n_classes == 180
    assert classes.min() >= 0
    assert classes.max() < 180
    for index, n in zip(np.unravel_index(classes, (2, 6, 5, 3))[1:], bins.shape, strict=True):
        share = np.bincount(index, minlength=n) / len(classes)
        assert share == pytest.approx(np.full(n, 1 / n), abs=0.002)


def test_class_order_equals_the_slow_twin():
    rng = np.random.default_rng(4)
    particles = random_particles(rng, 60)
    truth = truth_of(np.arange(1, 61), particles)
    bins = QuantileBins.fit([truth], 4, 3, 2)
    p = particles["pt"] * np.cosh(particles["eta"])
    theta = np.arctan2(particles["pt"], particles["pt"] * np.sinh(particles["eta"]))
    for i, found in enumerate(bins.classes(truth)):
        charge = int(particles["q"][i] > 0)
        index = [
            sum(edge < value for edge in edges)
            for edges, value in ((bins.phi, particles["phi"][i]), (bins.theta, theta[i] - 1e-12), (bins.p, p[i]))
        ]
        assert found == ((charge * 4 + index[0]) * 3 + index[1]) * 2 + index[2]


def test_equal_values_make_empty_bins_but_as_many_classes():
    particles = table(pt=[1.0, 1.0, 2.0], eta=np.zeros(3), phi=np.zeros(3), q=[1, -1, 1])
    truth = truth_of([1, 1, 2, 3], particles)
    bins = QuantileBins.fit([truth], 3, 2, 2)
    assert bins.phi == (0.0, 0.0)
    assert bins.n_classes == 24
    assert bins.classes(truth).tolist() == [12, 12, 0, 13]


def test_values_outside_the_fitted_range_are_in_the_outer_bins():
    inside = truth_of([1, 2], table(pt=[1.0, 2.0], eta=[0.0, 0.1], phi=[0.0, 0.1], q=[1, 1]))
    bins = QuantileBins.fit([inside], 2, 2, 2)
    outside = truth_of([1, 2], table(pt=[0.01, 99.0], eta=[5.0, -5.0], phi=[-3.0, 3.0], q=[-1, 1]))
    assert bins.classes(outside).tolist() == [0, 15]


def test_bins_survive_json_types():
    rng = np.random.default_rng(5)
    bins = QuantileBins.fit([truth_of(np.arange(1, 31), random_particles(rng, 30))], 5, 1, 2)
    values = bins.as_dict()
    assert all(type(edge) is float for edges in values.values() for edge in edges)
    assert QuantileBins.from_dict(values) == bins
    for bad in ({"phi": [0.0]}, [1.0], {**values, "p": [2.0, 1.0]}, {**values, "p": [float("nan")]}):
        with pytest.raises(InputError):
            QuantileBins.from_dict(bad)


def test_bins_refuse_what_cannot_be_binned():
    noise = truth_of([0, 0], table(pt=[1.0], eta=[0.0], phi=[0.0], q=[1]))
    with pytest.raises(InputError, match="no hit of a particle"):
        QuantileBins.fit([noise], 2, 2, 2)
    with pytest.raises(InputError, match="no hit of a particle"):
        QuantileBins.fit([], 2, 2, 2)
    neutral = truth_of([1], table(pt=[1.0], eta=[0.0], phi=[0.0], q=[0]))
    with pytest.raises(InputError, match="no charge for 1 particles"):
        QuantileBins.fit([neutral], 2, 2, 2)
    with pytest.raises(ConfigError, match="n_theta"):
        QuantileBins.fit([noise], 2, 0, 2)
    assert QuantileBins.fit([truth_of([1, 0], make_truth([1], {1: (1.0, 0.0)}).particles.assign(q=1))], 1, 1, 1)


# Augmentation


def points_on_tracks(particles) -> np.ndarray:
    """(m, 6, 3) points of helices from their vertices in 2 T along +z, where positive charges turn clockwise."""
    pt, eta, phi, q, vx, vy, vz = (
        particles[name].to_numpy(float)[:, None] for name in ("pt", "eta", "phi", "q", "vx", "vy", "vz")
    )
    turning = pt / (2 * CURVATURE) * q  # signed radius [mm]
    heading = phi - PATHS / turning
    x = vx - turning * (np.sin(heading) - np.sin(phi))
    y = vy + turning * (np.cos(heading) - np.cos(phi))
    return np.stack([x, y, vz + PATHS * np.sinh(eta)], axis=-1)


def track_event(seed=0, n=40):
    particles = random_particles(np.random.default_rng(seed), n)
    xyz = points_on_tracks(particles).reshape(-1, 3)
    numbers = np.arange(1, len(xyz) + 1)
    ones = np.ones_like(numbers)
    hits = Hits(numbers, xyz, ones, ones, ones, ones.astype(bool), event_id=7)
    return hits, truth_of(np.repeat(np.arange(1, n + 1), len(PATHS)), particles)


def moved(event, symmetry):
    """The event with hits, vertices and momenta moved."""
    hits, truth = event
    momenta = symmetry.momenta(Momenta.of(truth.particles))
    vertex = symmetry.positions(truth.particles[["vx", "vy", "vz"]].to_numpy())
    columns = {**momenta._asdict(), **dict(zip(("vx", "vy", "vz"), vertex.T, strict=True))}
    particles = truth.particles.assign(**columns)
    return replace(hits, xyz=symmetry.positions(hits.xyz)), replace(truth, particles=particles)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_moved_hits_are_those_of_the_moved_tracks(name):
    event = track_event()
    hits, truth = moved(event, SYMMETRIES[name])
    assert np.abs(hits.xyz - event[0].xyz).max() > 100
    assert hits.xyz == pytest.approx(points_on_tracks(truth.particles).reshape(-1, 3), abs=1e-8)
    wrong = truth.particles.assign(q=-truth.particles["q"])
    assert np.abs(hits.xyz - points_on_tracks(wrong).reshape(-1, 3)).max(axis=1).reshape(-1, 6)[:, -1].min() > 1


@pytest.mark.parametrize("name", SYMMETRIES)
def test_moved_toy_hits_stay_on_their_helices(name):
    hits, truth = moved(toy_event(n_noise=0, smear=0.0), SYMMETRIES[name])
    particle = truth.particles.iloc[particle_rows(truth)]
    r = np.hypot(hits.xyz[:, 0], hits.xyz[:, 1])
    x = CURVATURE * (particle["q"] / particle["pt"]).to_numpy() * r
    turned = np.arctan2(hits.xyz[:, 1], hits.xyz[:, 0]) - particle["phi"].to_numpy() + np.arcsin(x)
    assert np.cos(turned) == pytest.approx(np.ones(len(r)), abs=1e-12)
    z = particle["vz"].to_numpy() + np.sinh(particle["eta"].to_numpy()) * r * np.arcsin(x) / x
    assert hits.xyz[:, 2] == pytest.approx(z, abs=1e-9)


def test_targets_of_moved_particles_by_hand():
    momenta = Momenta.of(track_event(seed=2)[1].particles)
    theta, sine, cosine, curvature = momenta.targets("q_over_pt").T
    for symmetry, expected in (
        (Symmetry(), (theta, sine, cosine, curvature)),
        (Symmetry(flip=True), (np.pi - theta, sine, cosine, curvature)),
        (Symmetry(mirror=True), (theta, -sine, cosine, -curvature)),
        (Symmetry(np.pi / 2), (theta, cosine, -sine, curvature)),
        (Symmetry(np.pi / 2, mirror=True), (theta, cosine, sine, -curvature)),  # mirror first, then turn
    ):
        found = symmetry.momenta(momenta)
        assert found.targets("q_over_pt") == pytest.approx(np.column_stack(expected), abs=1e-6)
        assert (np.abs(found.phi) <= np.pi).all()
        assert (found.pt == momenta.pt).all()


def test_symmetries_leave_what_they_are_given_alone():
    xyz = track_event()[0].xyz
    momenta = Momenta.of(track_event()[1].particles)
    before = xyz.copy(), [column.copy() for column in momenta]
    symmetry = Symmetry(1.0, True, True)
    symmetry.positions(xyz)
    symmetry.momenta(momenta)
    assert (xyz == before[0]).all()
    assert all((now == then).all() for now, then in zip(momenta, before[1], strict=True))
    assert (Symmetry().positions(xyz) == xyz).all()


def test_only_what_is_asked_for_is_drawn_and_each_mirror_half_of_the_time():
    for rotate, flip, mirror in itertools.product((False, True), repeat=3):
        rng = np.random.default_rng(0)
        drawn = [Symmetry.draw(rng, rotate, flip, mirror) for _ in range(400)]
        assert rng.random() == np.random.default_rng(0).random(1201)[-1]
        for name, wanted in (("flip", flip), ("mirror", mirror)):
            assert sum(getattr(symmetry, name) for symmetry in drawn) == pytest.approx(200 * wanted, abs=40)
        angles = [symmetry.angle for symmetry in drawn]
        quarters = np.histogram(angles, 4, (0, 2 * np.pi))[0]
        assert quarters == pytest.approx(np.full(4, 100) if rotate else [400, 0, 0, 0], abs=35)
    assert {(symmetry.flip, symmetry.mirror) for symmetry in drawn} == set(itertools.product((False, True), repeat=2))
