"""What tables and figures call the data: decided by the raw events, not by the way they came in."""

import json

import pytest

from trackbench.evaluation.sample import Sample
from trackbench.plotting.sample import sample_header

SIMULATED = {"pileup": 200, "sigma_z": 5.5, "hit_efficiency": 0.98, "hard_process": "ttbar"}
REAL = dict.fromkeys(SIMULATED)


def write(folder, raw, source, n_test=4, truth_filter=False, label="pixel hits, noise kept"):
    facts = {
        **raw,
        "source": source,
        "sigma_z_measured": 6.123456,
        "selection": {"truth_filter": truth_filter},
        "selection_label": label,
        "n_events_per_split": {"train": 0, "val": 1, "test": n_test},
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize(
    ("raw", "source", "name", "origin"),
    [
        (SIMULATED, "simulate", "TrackML-like simulation", "measured here (simulated)"),
        (SIMULATED, "local", "TrackML-like simulation", "measured here (simulated)"),
        (REAL | {"hard_process": "none"}, "local", "TrackML-like simulation", "measured here (simulated)"),
        (REAL, "kaggle", "TrackML", "measured here (TrackML)"),
        (REAL, "local", "local data", "measured here (local data)"),
    ],
)
def test_the_raw_events_say_whether_they_are_simulated(tmp_path, raw, source, name, origin):
    path = write(tmp_path, raw, source)
    sample = Sample.load(path)
    assert (sample.name(), sample.origin()) == (name, origin)
    assert sample_header(path, {}).sample == name


def test_label_states_events_conditions_and_hits(tmp_path):
    sample = Sample.load(write(tmp_path, SIMULATED, "simulate"))
    conditions = "200 pile-up, sigma_z = 5.5 mm, hit efficiency 0.98"
    assert sample.label() == f"4 test events (simulated, TrackML-like; {conditions}); pixel hits, noise kept"
    sample = Sample.load(write(tmp_path, REAL, "kaggle", n_test=1))
    assert sample.label() == "1 test event (TrackML; spread of primary vertices 6.12 mm); pixel hits, noise kept"


def test_another_detector_is_named_the_usual_one_is_not(tmp_path):
    usual = Sample.load(write(tmp_path, SIMULATED | {"field": 2.0, "misalignment": 0.0}, "simulate"))
    assert usual.conditions() == "200 pile-up, sigma_z = 5.5 mm, hit efficiency 0.98"
    path = write(tmp_path, SIMULATED | {"field": 1.98, "misalignment": 0.02}, "simulate")
    named = "field 1.98 T, modules misaligned by 0.02 mm"
    assert Sample.load(path).conditions().endswith("hit efficiency 0.98, " + named)
    assert sample_header(path, {}, note="in sectors").note == named + ", in sectors"
    differing = SIMULATED | {"field": {"0000": 2.0, "0001": 1.98}}
    assert "field" not in Sample.load(write(tmp_path, differing, "simulate")).conditions()


def test_values_that_differ_between_shards_are_unknown_but_simulated(tmp_path):
    raw = SIMULATED | {"pileup": {"0000": 5, "0001": 20}, "sigma_z": {"0000": 5.5, "0001": 55}}
    sample = Sample.load(write(tmp_path, raw, "local"))
    assert (sample.simulated, sample.pileup, sample.sigma_z) == (True, None, None)
    assert sample.conditions() == "hit efficiency 0.98"


def test_header_of_a_run(tmp_path):
    path = write(tmp_path, SIMULATED, "simulate", truth_filter=True, label="pixel hits, noise REMOVED BY TRUTH")
    header = sample_header(path, {"pt_min": 0.5}, note="reconstructed in 4 phi sectors")
    assert header.note == "reconstructed in 4 phi sectors"
    assert (header.pileup, header.sigma_z, header.n_events) == (200, 5.5, 4)
    assert header.selection == "pT >= 0.5 GeV, |eta| < 4, >= 3 layers"
    assert header.hits == "pixel hits, noise REMOVED BY TRUTH"
    scan = sample_header(path, {}, scan=True)
    assert (scan.pileup, scan.sigma_z, scan.n_events) == (None, 5.5, None)
    assert (scan.selection, scan.sample) == ("", "TrackML-like simulation")


def test_the_pileup_scan_beside_real_data_is_called_simulated(tmp_path):
    scan = sample_header(write(tmp_path, REAL, "kaggle"), {}, scan=True)
    assert (scan.sample, scan.sigma_z) == ("TrackML and simulated pile-up scan", None)
