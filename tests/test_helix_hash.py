"""The helix-hash scan: projection, binning, score, kernel against plain NumPy, physics target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naive_helix_hash import NaiveTracker
from toys import CURVATURE, toy_event

from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event
from trackbench.data.reader import read_event
from trackbench.errors import ConfigError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.geometry.coordinates import azimuth, radius, wrap_angle
from trackbench.trackers import helix_hash
from trackbench.trackers.base import Timer
from trackbench.trackers.helix_hash import Config, Tracker

SHELF = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "simulated-mu200"
SMALL = Config(n_curvatures=5, z0_max=4.0, z0_step=2.0)  # 25 hypotheses


def phi0_spread(hits, truth, sign):
    """Median over toy tracks of the rms of phi0 when the curvature is taken with ``sign``."""
    phi, r, spreads = azimuth(hits.xyz), radius(hits.xyz), []
    for particle in truth.particles.itertuples():
        own = truth.particle_id == particle.particle_id
        if own.sum() >= 3:
            phi0, _ = helix_hash.helix_coordinates(phi[own], r[own], sign * particle.q / particle.pt)
            spreads.append(np.sqrt(np.mean(wrap_angle(phi0 - particle.phi) ** 2)))
    return np.median(spreads)


def test_sign_of_the_curvature():
    """At the true q/pT all hits of a helix give the true phi0; the wrong sign is worse than none."""
    hits, truth = toy_event(60, 0, seed=2, smear=0.0)
    right, straight, wrong = (phi0_spread(hits, truth, sign) for sign in (1.0, 0.0, -1.0))
    assert right < 1e-9
    assert wrong == pytest.approx(2 * straight, rel=0.01)
    assert straight > 0.01


def test_path_length_gives_the_true_polar_angle():
    hits, truth = toy_event(60, 0, seed=2, smear=0.0)
    phi, r, z = azimuth(hits.xyz), radius(hits.xyz), hits.xyz[:, 2]
    for particle in truth.particles.itertuples():
        own = truth.particle_id == particle.particle_id
        _, path = helix_hash.helix_coordinates(phi[own], r[own], particle.q / particle.pt)
        np.testing.assert_allclose(np.arcsinh((z[own] - particle.vz) / path), particle.eta, atol=1e-9)


def test_helix_coordinates_of_straight_tracks_and_out_of_reach():
    np.testing.assert_allclose(helix_hash.CURVATURE, CURVATURE)
    r = np.array([0.0, 30.0, 1e4])
    phi0, path = helix_hash.helix_coordinates(np.zeros(3), r, 0.0)
    np.testing.assert_array_equal(phi0, 0.0)
    np.testing.assert_array_equal(path, r)
    # At 1 GeV the turning point is at 2 R = 3336 mm, half a turn from the start.
    phi0, path = helix_hash.helix_coordinates(np.zeros(3), r, 1.0)
    assert phi0[2] == pytest.approx(np.pi / 2)
    assert np.isfinite(path).all()


def test_eta_bins_have_the_stated_widths():
    table, n_bins = helix_hash.eta_bin_table(0.016, 0.008)
    cot = np.sinh(np.linspace(-4.5, 4.5, 9001))
    position = (cot / (1 + np.abs(cot)) + 1) * (0.5 * (table.size - 2))
    k = position.astype(int)
    bins = table[k] + (table[k + 1] - table[k]) * (position - k)
    eta = np.arcsinh(cot)
    width = 1 / np.gradient(bins, eta)
    np.testing.assert_allclose(width, 0.016 + 0.008 * np.abs(eta), rtol=0.03)
    assert table[0] == 0
    assert table.max() + 1 < n_bins, "no room for the random offset"


def test_cell_scores_by_hand():
    """3 layers: 3; 4 hits on 3 layers: 3 + 0.3; 2 layers: no candidate; 6 layers, 6 hits: 6."""
    scores = helix_hash.cell_scores(0.3, min_layers=3, max_hits=20, n_layers=48)
    assert scores.shape == (49, 21)
    assert scores[3, 3] == 3
    assert scores[3, 4] == pytest.approx(3.3)
    assert scores[6, 6] == 6
    assert (scores[:3] == -1).all()


def test_bits_are_counted():
    from trackbench.trackers.layers.helix_hash_kernels import count_bits

    words = [0, 1, 0b1011, (1 << 48) - 1, (1 << 64) - 1, 0xF0F0000000000001]
    assert [int(count_bits(np.uint64(word))) for word in words] == [word.bit_count() for word in words]


def test_hits_on_one_layer_are_no_track():
    """Eight hits in one direction on two layers do not make a candidate; with a third layer they do."""
    hits, truth = toy_event(20, 0, seed=4, smear=0.0)
    counts = truth.particles.set_index("particle_id")["n_layers"]
    own = np.flatnonzero(truth.particle_id == counts.idxmax())
    own = own[np.argsort(np.linalg.norm(hits.xyz[own], axis=1))]
    for n_layers, n_expected in ((2, 0), (3, 1)):
        some = hits.take(np.repeat(own[:n_layers], 4))
        some = replace(some, hit_id=np.arange(len(some)))
        labels = Tracker(Config()).reconstruct(some)
        assert np.unique(labels[labels >= 0]).size == n_expected
        assert np.count_nonzero(labels >= 0) == n_expected * len(some)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "settings",
    [{}, {"passes": 1}, {"spread_penalty": 0.0}, {"extra_hit_score": -0.3}, {"max_hits": 4}, {"phi_bin": 0.1}],
    ids=str,
)
def test_kernel_equals_plain_numpy(seed, settings):
    hits, _ = toy_event(80, 80, seed=seed)
    config = replace(SMALL, **settings)
    expected = NaiveTracker(config, seed).reconstruct(hits)
    labels = Tracker(config, seed).reconstruct(hits)
    np.testing.assert_array_equal(labels, expected)
    assert labels.max() > 5


def test_seed_moves_the_bins():
    hits, _ = toy_event(200, 200, seed=1)
    tracker = Tracker(SMALL, 1)
    labels = tracker.reconstruct(hits)
    assert labels.tobytes() == tracker.reconstruct(hits).tobytes()
    assert labels.tobytes() != Tracker(SMALL, 2).reconstruct(hits).tobytes()


@pytest.mark.parametrize("sigma_z, z0_max", [(5.5, 16.0), (55.0, 160.0)])
def test_toy_tracks_are_found(sigma_z, z0_max):
    hits, truth = toy_event(300, 300, seed=5, pt_min=0.9, sigma_z=sigma_z)
    labels = Tracker(Config(z0_max=z0_max)).reconstruct(hits)
    counts = evaluate_event(labels, truth, TruthSelection()).counts
    found, targets = counts["dm"]
    assert targets > 200
    assert found > 0.95 * targets


def test_hits_at_odd_places():
    """On the beam line, at the vertex, far outside; hits on unknown layers stay unassigned."""
    hits, _ = toy_event(30, 30, seed=6)
    xyz, volume, layer = hits.xyz.copy(), hits.volume_id.copy(), hits.layer_id.copy()
    xyz[0], xyz[1], xyz[2], xyz[3] = (0, 0, 0), (0, 0, 55.0), (1e6, -1e6, 1e9), (-30.0, -0.0, 0.0)
    volume[4:7], layer[7:9] = 99, 99
    labels = Tracker(SMALL).reconstruct(replace(hits, xyz=xyz, volume_id=volume, layer_id=layer))
    assert (labels[4:9] == -1).all()
    assert labels.max() > 3


def test_crowded_cell_is_ignored():
    """Counts above 16 bits do not wrap around to a small number that looks like a track."""
    from trackbench.trackers.layers import helix_hash_kernels as kernels

    n = 2**16 + 5
    layer_bit = np.uint64(1) << (np.arange(n) % 5).astype(np.uint64)
    hits = kernels.HitArrays(np.full(n, 3.0), np.full(n, 50.0), np.full(n, 10.0), layer_bit)
    tables = kernels.Tables(helix_hash.eta_bin_table(0.5, 0.1)[0], helix_hash.cell_scores(0.3, 3, 20, 48), 0.0)
    cells = kernels.empty_cells(10, 100, n)
    best = kernels.Best(np.zeros(n), np.full(n, -1, dtype=np.int64))
    kernels.scan_vertices(hits, kernels.Hypotheses(np.zeros(1), np.zeros((1, 2))), tables, cells, 0, best)
    assert (best.label == -1).all()
    assert not cells.word.any()


def test_later_passes_keep_what_is_frozen():
    """Candidates of >= freeze_hits hits of the first pass are final; later passes add others."""
    hits, _ = toy_event(150, 200, seed=8)
    one = Tracker(replace(SMALL, passes=1)).reconstruct(hits)
    three = Tracker(replace(SMALL, passes=3)).reconstruct(hits)
    final = {frozenset(np.flatnonzero(three == label)) for label in range(three.max() + 1)}
    first = {frozenset(np.flatnonzero(one == label)) for label in range(one.max() + 1)}
    frozen = {track for track in first if len(track) >= SMALL.freeze_hits}
    assert len(frozen) > 3
    assert frozen < final


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_curvatures": 0}, "trackers.helix_hash.n_curvatures: value 0, expected 1 to 1000"),
        ({"phi_bin": float("nan")}, "trackers.helix_hash.phi_bin: value nan, expected 0.0005 to 1.0"),
        ({"passes": 21}, "trackers.helix_hash.passes: value 21, expected 1 to 20"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config(**settings)


def test_stages_are_timed():
    timer = Timer()
    Tracker(SMALL).reconstruct(toy_event(10, 10)[0], timer)
    assert set(timer.cpu) == {"features", "clustering"}


def dm_efficiency(prefix):
    """DM efficiency on all pixel hits of an event with more than 800 targets."""
    hits, truth = build_event(read_event(prefix, RAW_PARTS), DataSelection("pixel"), 2)
    found, targets = evaluate_event(Tracker(Config()).reconstruct(hits), truth, TruthSelection()).counts["dm"]
    assert targets > 800
    return found / targets


@pytest.mark.data
@pytest.mark.skipif(not SHELF.exists(), reason="the simulated mu = 200 event is not beside the repository")
def test_target_on_the_event_it_was_tuned_on():
    """DM >= 0.92 for pT >= 0.9 GeV at mu = 200, every hit found."""
    assert dm_efficiency(SHELF / "event000000002") >= 0.92


@pytest.mark.slow
def test_target_on_an_event_used_nowhere_else(tmp_path):
    """DM >= 0.92 for pT >= 0.9 GeV at mu = 200, 2 % of the hits lost."""
    pytest.importorskip("acts", reason="the extra 'simulate' is not installed")
    pytest.importorskip("pythia8mc", reason="the extra 'simulate' is not installed")
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.simulate import simulate

    simulate(SimulationConfig(seed=707), [7], tmp_path / "events", cache_dir=tmp_path / "generator")
    assert dm_efficiency(tmp_path / "events" / "event000000007") >= 0.92
