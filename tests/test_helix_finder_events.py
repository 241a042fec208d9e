"""The helix finder on whole events: simulated ones used nowhere else, and the real thinned event.

The targets of the finder are means over many events (``benchmarks/bench_helix_finder.py``); the limits here leave
room for the fluctuation of one event.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trackbench.data.prepare import RAW_PARTS, DataSelection, build_event
from trackbench.data.reader import read_event
from trackbench.data.tracks import PARAMETERS
from trackbench.evaluation.metrics import evaluate_event
from trackbench.trackers.helix_finder import Config, Tracker

SAMPLE = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "trackml-sample" / "event000000001"
SEED = 9001  # of no event that settings were tuned on
PROMPT_VR = 2.0  # [mm]


def evaluated(prefix, event_id, config):
    """Metrics of the finder on one event, pixel hits."""
    hits, truth = build_event(read_event(prefix, RAW_PARTS), DataSelection("pixel"), event_id)
    tracks = Tracker(config).reconstruct_tracks(hits)
    return evaluate_event(tracks.labels, truth, parameters=tracks.parameters)


@pytest.fixture(scope="module", params=[(200.0, 1), (20.0, 8)], ids=["mu200", "mu20"])
def simulated(request, tmp_path_factory):
    """Results of new events: one of 200 pile-up, eight of 20, with about as many targets."""
    pytest.importorskip("acts", reason="the extra 'simulate' is not installed")
    pytest.importorskip("pythia8mc", reason="the extra 'simulate' is not installed")
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.simulate import simulate

    pileup, n_events = request.param
    folder = tmp_path_factory.mktemp("events")
    events = list(range(1, n_events + 1))
    simulate(SimulationConfig(pileup=pileup, seed=SEED), events, folder, cache_dir=folder / "generator")
    return [evaluated(folder / f"event{event:09d}", event, Config()) for event in events]


def share(results, metric):
    """Numerator and denominator of a metric, summed over events, and their ratio."""
    found, total = np.sum([result.counts[metric] for result in results], axis=0)
    return found / total, total


def prompt_residuals(results):
    """Residuals of prompt tracks of more than 0.9 GeV."""
    table = pd.concat([result.residuals for result in results])
    return table[(table["vr"] <= PROMPT_VR) & (table["pt"] > 0.9)]


@pytest.mark.slow
def test_efficiency_and_fakes(simulated):
    efficiency, n_targets = share(simulated, "dm")
    assert n_targets > 800
    assert efficiency >= 0.97
    assert share(simulated, "fake_rate")[0] <= 0.005
    assert share(simulated, "fake_all_pt")[0] <= 0.03


@pytest.mark.slow
def test_pulls_have_width_one(simulated):
    """Half of the central 68 % of each pull within 15 % of 1, and no bias above a fifth of the error."""
    table = prompt_residuals(simulated)
    assert len(table) > 800
    for name in PARAMETERS:
        low, middle, high = np.quantile(table[f"pull_{name}"], [0.15866, 0.5, 0.84134])
        assert 0.85 < (high - low) / 2 < 1.15, name
        assert abs(middle) < 0.2, name


@pytest.mark.slow
def test_chi2_probability_is_flat_within_reason(simulated):
    """Each tenth of the range holds 5 to 20 % of the tracks; the lowest has most, wrong hits and hard scatters."""
    table = prompt_residuals(simulated)
    probability = stats.chi2.sf(table["chi2"], table["n_dof"])
    shares = np.histogram(probability, 10, (0.0, 1.0))[0] / len(table)
    assert shares.min() > 0.05
    assert shares.max() < 0.2


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.parent.exists(), reason="the real TrackML sample is not beside the repository")
def test_real_thinned_event():
    """Collisions spread over sigma_z = 55 mm: DM of the targets at least 0.97, hardly any fakes."""
    result = evaluated(SAMPLE, 1, Config(max_z0=180.0))
    (found, targets), (fakes, candidates) = result.counts["dm"], result.counts["fake_rate"]
    assert targets > 50
    assert found >= 0.97 * targets
    assert fakes <= 0.02 * candidates
