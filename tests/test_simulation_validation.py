"""Summary and figure of the validation on events whose numbers are known."""

import json

import numpy as np
import pandas as pd
import pytest

from trackbench.data.particle_id import pack_particle_id
from trackbench.errors import ConfigError, InputError
from trackbench.plotting.style import save_figure
from trackbench.plotting.validation import plot_validation
from trackbench.simulation.output import EventTables, write_event
from trackbench.simulation.validation import REFERENCES, distributions, event_quantities, summarise


def known_event(event_id=1, extra=0):
    """Five particles, 8 true hits in volumes 8 and 9, 2 (+ extra) noise hits in volume 8.

    Particles: two primaries of vertex 1 (pT 3, eta 0, 4 hits; pT 0.2, eta 2.1, 3 hits), one of vertex 2
    (pT 1.0, eta -3.1, no hit), one made at r = 5 mm (pT 0.3), one secondary of p = 0.5 with 1 hit.
    """
    ids = pack_particle_id([1, 1, 2, 1, 1], [1, 2, 1, 3, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1])
    pt, eta = np.array([3.0, 0.2, 1.0, 0.3, 0.3]), np.array([0.0, 2.1, -3.1, 0.0, np.arcsinh(0.4 / 0.3)])
    particles = pd.DataFrame({"particle_id": ids, "particle_type": 211, "vx": [0, 0, 0, 3.0, 30.0]})
    particles["vy"], particles["vz"] = [0, 0, 0, 4.0, 1.0], [2.0, 2.0, -4.0, 2.0, 9.0]
    particles["px"], particles["py"], particles["pz"] = pt, 0.0, pt * np.sinh(eta)
    particles["q"], particles["nhits"] = 1, [4, 3, 0, 0, 1]
    particles = particles.sort_values("particle_id", ignore_index=True)
    owner = np.r_[np.repeat(ids, [4, 3, 0, 0, 1]), np.zeros(2 + extra, np.int64)]
    n = len(owner)
    hits = pd.DataFrame({"hit_id": np.arange(1, n + 1), "x": np.arange(n) + 30.0, "y": 0.0, "z": 0.0})
    hits["volume_id"] = [8] * 4 + [9] * 4 + [8] * (2 + extra)
    hits["layer_id"], hits["module_id"] = 2, 1
    truth = pd.DataFrame({"hit_id": hits["hit_id"], "particle_id": owner})
    for name in ("tx", "ty", "tz", "tpx", "tpy", "tpz"):
        truth[name] = 1.0
    truth["weight"] = (owner > 0) / 8
    return EventTables(event_id, hits, truth, particles)


EXPECTED = {
    "particles": 5,
    "particles with hits": 3,
    "primaries": 4,
    "secondaries": 1,
    "interaction points": 1,
    "primaries made at r > 1 mm": 1,
    "populated vertices": 2,
    "true hits": 8,
    "particles pT > 0.9": 2,
    "particles pT > 0.9, >= 3 hits": 1,
    "same, |eta| < 1.5": 1,
    "same, |eta| >= 1.5": 0,
    "hits per primary": 7 / 4,
    "hits per secondary": 1,
    "median pT": 0.3,
    "median p of secondaries": 0.5,
    "vertex spread in z": np.std([2.0, -4.0], ddof=1),
    "noise share": 0.2,
    "hit share of volume 8": 0.6,
    "hit share of volume 9": 0.4,
    "hit share of volume 7": 0,
    "noise share in volume 8": 2 / 6,
    "noise share in volume 9": 0,
}


def test_quantities_of_a_known_event():
    event = known_event()
    values = event_quantities(event.hits, event.truth, event.particles)
    assert set(values) == set(REFERENCES)
    for name, expected in EXPECTED.items():
        assert values[name] == pytest.approx(expected), name
    assert np.isnan(values["noise share in volume 17"])  # no hit there to be noise


def test_quantities_of_an_empty_event_are_zero_or_undefined():
    event = known_event()
    values = event_quantities(event.hits.iloc[:0], event.truth.iloc[:0], event.particles.iloc[:0])
    assert values["particles"] == values["true hits"] == values["populated vertices"] == 0
    assert np.isnan([values["median pT"], values["hits per primary"], values["noise share"]]).all()


@pytest.fixture
def folder(tmp_path):
    """Two events in two shards, settings those of the reference."""
    for event_id, extra in ((1, 0), (2, 5)):
        shard = tmp_path / f"shard-{event_id}"
        write_event(known_event(event_id, extra), shard, "parquet" if event_id == 1 else "csv")
        settings = {"pileup": 200.0, "sigma_z": 5.5, "hard_process": "ttbar"}
        (shard / "manifest.json").write_text(json.dumps(settings))
    return tmp_path


def test_summary_averages_events_and_divides_by_the_reference(folder):
    table = summarise(folder).set_index("quantity")
    assert list(table.index) == list(REFERENCES)
    noise = table.loc["noise share"]
    shares = [2 / 10, 7 / 15]
    assert noise["mean"] == pytest.approx(np.mean(shares))
    assert noise["spread"] == pytest.approx(np.std(shares, ddof=1))
    assert noise["ratio"] == pytest.approx(np.mean(shares) / 0.15)
    assert table.loc["primaries", "ratio"] == pytest.approx(4 / 9431)
    assert (table["n_events"] == 2).all()
    assert table.loc["secondaries", "by_construction"]
    assert not table.loc["primaries", "by_construction"]


@pytest.mark.parametrize(("setting", "value"), [("pileup", 20.0), ("hard_process", "tthbb")])
def test_counts_have_no_reference_at_other_settings(folder, setting, value):
    path = folder / "shard-1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    table = summarise(folder).set_index("quantity")
    assert np.isnan(table.loc["primaries", "reference"])
    assert table.loc["hit share of volume 8", "reference"] == 0.242


def test_sigma_z_decides_about_the_vertex_spread_only(folder):
    path = folder / "shard-1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sigma_z": 55.0}))
    table = summarise(folder).set_index("quantity")
    assert np.isnan(table.loc["vertex spread in z", "ratio"])
    assert table.loc["primaries", "reference"] == 9431


def test_some_events_or_a_missing_one(folder):
    one = summarise(folder, [2])
    assert (one["n_events"] == 1).all()
    assert one["spread"].isna().all()
    with pytest.raises(InputError, match="no event 7, expected some of 2 events"):
        summarise(folder, [7])
    with pytest.raises(InputError, match="no event asked for"):
        distributions(folder, [])


def test_distributions_count_particles(folder):
    table = distributions(folder)
    hits = table[table["distribution"] == "hits of primaries"]
    assert dict(zip((hits["lo"] + 0.5).astype(int), hits["mean"], strict=True)) == {
        n: {0: 2, 3: 1, 4: 1}.get(n, 0) for n in range(21)
    }
    assert table.groupby("distribution")["mean"].sum().to_dict() == {
        "pt": 5,
        "eta": 5,
        "hits of primaries": 4,
        "hits of secondaries": 1,
    }
    assert (table["spread"] == 0).all()


def test_figure_and_its_numbers(folder, tmp_path):
    summary, counts = summarise(folder), distributions(folder)
    figure, table = plot_validation(summary, counts)
    assert len(figure.axes) == 5
    drawn = {text.get_text() for ax in figure.axes for text in ax.texts}
    assert {"TrackML-like simulation", "2 events"} <= drawn
    assert len(table) == len(summary) + len(counts)
    labelled = table.set_index("label")
    assert labelled.loc["primaries", "mean"] == 4
    paths = save_figure(figure, tmp_path / "simulation", table)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_figure_of_nothing_is_refused(folder):
    summary, counts = summarise(folder), distributions(folder)
    with pytest.raises(ConfigError, match="no events"):
        plot_validation(summary.iloc[:0], counts)
    with pytest.raises(ConfigError, match="no column 'ratio'"):
        plot_validation(summary.drop(columns="ratio"), counts)
