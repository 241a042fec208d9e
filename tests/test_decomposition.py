"""The study of phi sectors: counts by hand, the same numbers as a direct calculation, the figure and the table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toys import toy_event

from trackbench.ceilings import ceiling_labels
from trackbench.data.hits import Hits
from trackbench.data.padding import pad_hits
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.decomposition import (
    COLUMNS,
    COMPARED,
    METRICS,
    DecompositionPlan,
    containment,
    decomposition_markdown,
    decomposition_study,
)
from trackbench.errors import ConfigError, InputError
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.sample import Sample
from trackbench.evaluation.selection import TruthSelection
from trackbench.plotting.decomposition import decomposition_figure
from trackbench.sectored import build_sectored
from trackbench.trackers.base import TrackerBase, build_tracker

SAMPLE = Sample(True, "simulate", 20, None, None, 1, "some hits")
ALL = TruthSelection(pt_min=0.0, eta_max=float("inf"), min_layers=1, layer_rule="hits")


def hand_event(degrees, particle, pt):
    """Hits on a circle of the given azimuths and particles; pt of particles 1, 2, ..."""
    phi = np.radians(degrees)
    n = len(phi)
    frame = pd.DataFrame({"hit_id": np.arange(n), "x": np.cos(phi), "y": np.sin(phi), "z": 0.0})
    hits = Hits.from_frame(frame.assign(volume_id=8, layer_id=2, module_id=1))
    particle = np.asarray(particle, dtype=np.int64)
    table = pd.DataFrame(0.0, index=range(len(pt)), columns=list(PARTICLE_COLUMNS))
    count = np.bincount(particle, minlength=len(pt) + 1)[1:]
    table = table.assign(
        particle_id=np.arange(1, len(pt) + 1), pt=pt, q=1.0, n_hits=count, n_layers=count, n_layer_ids=count
    )
    return hits, Truth(hits.hit_id, particle, (particle > 0).astype(float), table)


# Particle 1 crosses 0 degrees, 2 is inside a sector, 3 crosses 180, 4 has no hit; one hit of noise at 50.
EVENT = hand_event([-20, -5, 20, 60, 70, 175, -175, 50], [1, 1, 1, 2, 2, 3, 3, 0], [2.0, 0.5, 1.0, 3.0])


class TrueTracks(TrackerBase):
    """Knows the particles of one event, by hit_id; sees what it is shown only."""

    def __init__(self, truth):
        super().__init__(config=None)
        self.truth = truth
        self.calls = 0

    def find_tracks(self, hits, timer):
        self.calls += 1
        particle = pd.Series(self.truth.particle_id, index=self.truth.hit_id)[hits.hit_id].to_numpy()
        return np.where(particle > 0, particle, -1)


def table_of(table, sectors, overlap, kind="tracker"):
    chosen = (table["kind"] == kind) & (table["sectors"] == sectors) & np.isclose(table["overlap"], overlap)
    return table[chosen].set_index("metric")


def test_containment_by_hand():
    hits, truth = EVENT
    # Sectors of 90 degrees: [-180, -90) 1 hit, [-90, 0) 2, [0, 90) 4, [90, 180] 1; 8 hits.
    found = containment(hits, truth, 4, 0.0)
    assert found == {"contained": 1 / 3, "contained_pt": 0.0, "cost": (1 + 4 + 16 + 1) / 64}
    # 9 degrees more on both sides: -175 and 175 are seen by both, -5 by both; 20 not by the left.
    found = containment(hits, truth, 4, 0.1)
    assert found == {"contained": 2 / 3, "contained_pt": 1 / 2, "cost": (4 + 4 + 25 + 4) / 64}
    # 27 degrees: the left sees -20 -5 20 and all of particle 1 is there.
    found = containment(hits, truth, 4, 0.3)
    assert found["contained"] == found["contained_pt"] == 1.0
    assert containment(hits, truth, 1, 0.0) == {"contained": 1.0, "contained_pt": 1.0, "cost": 1.0}
    assert containment(pad_hits(hits, 12), padded_truth(truth, 12), 4, 0.1) == containment(hits, truth, 4, 0.1)


def padded_truth(truth, size):
    n = size - len(truth)
    rows = {"hit_id": np.arange(size), "weight": np.append(truth.weight, np.zeros(n))}
    return replace(truth, particle_id=np.append(truth.particle_id, np.zeros(n, dtype=np.int64)), **rows)


def test_containment_without_particles_or_hits():
    hits, truth = EVENT
    nothing = np.arange(0)
    empty = replace(truth, **{name: getattr(truth, name)[nothing] for name in ("hit_id", "particle_id", "weight")})
    assert np.isnan(list(containment(hits.take(nothing), empty, 4, 0.1).values())).all()


def test_study_by_hand():
    hits, truth = EVENT
    tracker = TrueTracks(truth)
    plan = DecompositionPlan((4,), (0.0, 0.3), ALL)
    table = decomposition_study("truth", tracker, [(hits, truth)], plan)
    assert tuple(table.columns) == COLUMNS
    assert plan.settings == [(1, 0.0), (4, 0.0), (4, 0.3)]
    assert len(table) == 3 * len(METRICS) + 2 * len(COMPARED)
    # Only particle 1 has the three hits a candidate needs; particle 4 has no hit and is no target.
    whole = table_of(table, 1, 0.0)["value"]
    assert whole[["score", "dm", "perfect", "contained", "cost"]].tolist() == [1.0, 1 / 3, 1 / 3, 1.0, 1.0]
    cut = table_of(table, 4, 0.0)
    # Particle 1 is cut to 2 of 3 hits, still more than half; particle 3 to halves, which is not.
    assert cut.loc["score", "value"] == pytest.approx(4 / 7)
    assert cut.loc["score", "change"] == pytest.approx(-3 / 7)
    assert cut.loc["score", "change_lo"] == cut.loc["score", "change_hi"] == cut.loc["score", "change"]
    assert cut.loc["dm", "value"] == 0.0
    # 0.3 rad = 17.2 degrees: -20 -5 is seen left, -5 20 right: 1 of 2 hits shared is not more than half. At 180
    # degrees both sectors see both hits.
    wide = table_of(table, 4, 0.3)
    assert wide.loc["score", "value"] == pytest.approx(6 / 7)
    assert wide.loc["contained", "value"] == pytest.approx(2 / 3)
    assert (table_of(table, 4, 0.3).loc[["wall_ms", "cpu_ms"], "value"] >= 0).all()
    # One call to warm up and one that counts: 1 for the whole event, 4 sectors twice.
    assert tracker.calls == 2 * (1 + 4 + 4)


def test_study_against_a_direct_calculation():
    events = [toy_event(40, 20, seed, event_id=seed) for seed in (1, 2, 3)]
    plan = DecompositionPlan((1, 3), (0.2,), seed=4)
    table = decomposition_study("density_peaks", build_tracker("density_peaks"), events, plan)
    selection = TruthSelection()
    values = {}
    for n, overlap in plan.settings:
        tracker = build_sectored("density_peaks", {}, 0, n, overlap / (2 * np.pi / n))
        results = [evaluate_event(tracker.reconstruct(hits), truth, selection) for hits, truth in events]
        for metric, name in (("score", "trackml_score"), ("dm", "dm"), ("perfect", "perfect")):
            values[n, metric] = np.array([result.value(name) for result in results])
            row = table_of(table, n, overlap).loc[metric]
            assert row["value"] == pytest.approx(values[n, metric].mean())
            assert values[n, metric].min() <= row["lo"] <= row["value"] <= row["hi"] <= values[n, metric].max()
            assert row["change"] == pytest.approx((values[n, metric] - values[1, metric]).mean())
    assert (table["n_events"] == 3).all()
    assert table.loc[table["metric"].isin(["wall_ms", "cpu_ms"]), "change"].isna().all()
    timeless = table[~table["metric"].isin(["wall_ms", "cpu_ms"])]
    again = decomposition_study("density_peaks", build_tracker("density_peaks"), events, plan)
    pd.testing.assert_frame_equal(timeless, again[~again["metric"].isin(["wall_ms", "cpu_ms"])])


def test_floor_and_ceiling_of_the_same_events():
    events = [toy_event(12, 5, seed, event_id=seed) for seed in (1, 2)]
    table = decomposition_study(
        "density_peaks", build_tracker("density_peaks"), events, DecompositionPlan((1,), (0.0,))
    )
    labels = {
        "floor": [build_tracker("hit_angles").reconstruct(hits) for hits, _ in events],
        "ceiling": [ceiling_labels("true_targets", truth, {}) for _, truth in events],
    }
    own = table_of(table, 1, 0.0)
    for kind, name in (("floor", "hit_angles"), ("ceiling", "true_targets")):
        rows = table_of(table, 1, 0.0, kind)
        assert list(rows.index) == list(COMPARED) and set(rows["tracker"]) == {name}
        found = [evaluate_event(mine, event[1]) for mine, event in zip(labels[kind], events, strict=True)]
        score = np.mean([result.value("trackml_score") for result in found])
        assert rows.loc["score", "value"] == pytest.approx(score)
        assert rows.loc["score", "change"] == pytest.approx(score - own.loc["score", "value"])
    assert (
        table_of(table, 1, 0.0, "ceiling").loc["score", "value"]
        > table_of(table, 1, 0.0, "floor").loc["score", "value"]
    )


def test_bad_plans_and_no_events():
    for arguments, words in (
        (((), (0.0,)), "decomposition.sectors"),
        (((0,), (0.0,)), "decomposition.sectors"),
        (((4,), ()), "decomposition.overlaps"),
        (((4,), (-0.1,)), "decomposition.overlaps"),
        (((16,), (0.4,)), "below the sector width 0.393 rad"),
    ):
        with pytest.raises(ConfigError, match=words):
            DecompositionPlan(*arguments)
    with pytest.raises(InputError, match="no events"):
        decomposition_study("x", TrueTracks(EVENT[1]), [])


def test_table_for_people_and_figure():
    plan = DecompositionPlan((1, 4), (0.0, 0.3), ALL)
    table = decomposition_study("truth", TrueTracks(EVENT[1]), [EVENT], plan)
    text = decomposition_markdown(table, SAMPLE.label())
    lines = text.splitlines()
    assert lines[0].startswith("| sectors | overlap [rad] | TrackML score | DM |")
    assert lines[2].startswith("| 1 | whole event | 1.000 +0.000 \N{MINUS SIGN}0.000 | 0.333")
    assert lines[3].startswith("| 4 | 0 | 0.571 +0.000 \N{MINUS SIGN}0.000 (\N{MINUS SIGN}0.429 +0.000")
    assert lines[5].startswith("| 1 | floor: hit_angles | ") and lines[6].startswith("| 1 | ceiling: true_targets | ")
    assert lines[5].count("\N{EN DASH}") == 5  # neither sectors nor times
    assert "Tracker: truth. 1 test event (simulated, TrackML-like; 20 pile-up); some hits. Floor" in text
    assert len(lines) == 9 and "demo" not in text
    text = decomposition_markdown(table.replace("truth", "greedy (demo, trained on 10-50)"), "one event")
    assert "Tracker: greedy (demo, trained on 10-50). one event. A demo is trained for minutes" in text
    figure, rows = decomposition_figure(table)
    assert set(rows["metric"]) == {"score", "dm", "cpu_ms", "cost"}
    assert len(rows) == 4 * 3 + 2 * 2
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"whole event", "floor: hit_angles", "ceiling: true_targets", "overlap 0.3 rad"} <= set(legend)
    axes = figure.axes
    assert [ax.get_ylabel()[:7] for ax in axes] == ["TrackML", "Double-", "CPU tim", "Pairs o"]
    lines = [line for line in axes[0].get_lines() if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
    assert [np.round(line.get_ydata(), 4).tolist() for line in lines] == [[1.0, 0.5714], [1.0, 0.8571]]
    said = axes[0].texts[-1].get_text().splitlines()
    assert said[0] == "truth" and len(said) == 2 and said[1].startswith("bars: bootstrap over events; of score and DM")
    figure.canvas.draw()


def test_figure_of_nothing():
    figure, rows = decomposition_figure(pd.DataFrame(columns=list(COLUMNS)))
    assert rows.empty
    assert any("no event" in text.get_text() for text in figure.axes[0].texts)
    with pytest.raises(ConfigError, match="no column 'kind'"):
        decomposition_figure(pd.DataFrame({"tracker": ["a"]}))
