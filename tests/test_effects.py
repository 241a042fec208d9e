"""Where trackers lose: the table of effects by hand, its Markdown and its figure."""

import numpy as np
import pandas as pd
import pytest
from metric_events import worked_example

from trackbench.errors import ConfigError, InputError
from trackbench.evaluation import TruthSelection, evaluate_event
from trackbench.evaluation.effects import COLUMNS, REGIONS, effects_markdown, effects_table
from trackbench.evaluation.intervals import clopper_pearson, wilson
from trackbench.evaluation.tables import Measured
from trackbench.plotting.effects import effects_figure
from trackbench.plotting.style import Header, tracker_style

# event_id, eta, vr [mm], n_layers, dm; events 10 and 11 are the first effect, 20 and 21 the second
PARTICLES = [
    (10, 0.5, 0.1, 5, True),
    (10, -2.4, 0.1, 4, False),
    (10, 2.5, 3.0, 3, True),
    (11, -3.0, 2.0, 3, True),
    (11, 3.5, 9.0, 4, False),
    (20, 0.5, 0.1, 5, True),
    (20, 2.9, 3.0, 3, False),
    (21, 3.2, 2.1, 5, False),
]
# event_id, eta of the majority particle (NaN = noise), fiducial, fake_purity, fake_dm
CANDIDATES = [
    (10, 0.5, True, False, False),
    (10, -2.7, True, True, True),
    (10, np.nan, False, True, True),
    (11, 3.1, True, False, True),
    (11, 1.0, False, True, True),
    (20, 0.5, True, False, False),
    (21, 3.9, True, True, True),
]
FAKE_ALL = {10: (2, 3), 11: (2, 2), 20: (0, 1), 21: (1, 1)}
EFFECTS = ["nominal", "field 1.98 T"]
SHARD_OF = {10: 0, 11: 0, 20: 1, 21: 1}


def measured(fake_all=FAKE_ALL, **more):
    counts = [(event, "fake_all", *pair) for event, pair in fake_all.items()]
    # Counted over candidates led by targets, whatever the direction.
    led = pd.DataFrame(CANDIDATES, columns=["event_id", "eta", "fiducial", "fake_purity", "fake_dm"])
    rates = led[led["fiducial"]].groupby("event_id")["fake_purity"].agg(["sum", "size"])
    counts += [(event, "fake_rate", *pair) for event, pair in zip(rates.index, rates.to_numpy().tolist(), strict=True)]
    counts += [(event, metric, *pair) for metric, pairs in more.items() for event, pair in pairs.items()]
    particles = pd.DataFrame(PARTICLES, columns=["event_id", "eta", "vr", "n_layers", "dm"])
    return Measured(pd.DataFrame(counts, columns=["event_id", "metric", "num", "den"]), particles, led)


def table(interval="clopper-pearson", **trackers):
    return effects_table(trackers or {"helix_hash": measured()}, SHARD_OF, EFFECTS, interval)


def pair(rows, effect, metric, region="all", tracker="helix_hash"):
    chosen = (rows["effect"] == effect) & (rows["metric"] == metric) & (rows["region"] == region)
    found = rows[chosen & (rows["tracker"] == tracker)]
    assert len(found) == 1
    return int(found["n_num"].iloc[0]), int(found["n_den"].iloc[0])


def test_efficiency_by_region_and_effect():
    rows = table()
    assert tuple(rows.columns) == COLUMNS
    expected = {
        "all": ((3, 5), (1, 3)),
        "prompt": ((2, 3), (1, 1)),  # 2.0 mm is still prompt
        "secondary, >= 4 layers": ((0, 1), (0, 1)),
        "secondary, 3 layers": ((1, 1), (0, 1)),
        "|eta| < 2.5": ((1, 2), (1, 1)),
        "2.5 <= |eta| < 3": ((1, 1), (0, 1)),
        "|eta| >= 3": ((1, 2), (0, 1)),
    }
    assert expected.keys() == REGIONS.keys()
    for region, values in expected.items():
        assert tuple(pair(rows, effect, "dm", region) for effect in EFFECTS) == values
    assert (rows["n_events"] == 2).all()


def test_fakes_by_direction_and_of_all_candidates():
    rows = table()
    assert [pair(rows, effect, "fake_all") for effect in EFFECTS] == [(4, 5), (1, 2)]
    assert [pair(rows, effect, "fake_rate") for effect in EFFECTS] == [(1, 3), (1, 2)]
    by_direction = [pair(rows, "nominal", "fake_rate", region) for region in list(REGIONS)[4:]]
    assert by_direction == [(0, 1), (1, 1), (0, 1)]
    assert "fake_all_pt" not in set(rows["metric"])  # needs fits
    fitted = table(fitter=measured(fake_all_pt={10: (0, 2), 11: (1, 2), 20: (1, 1), 21: (0, 0)}))
    assert pair(fitted, "nominal", "fake_all_pt", tracker="fitter") == (1, 4)


def test_intervals_are_those_asked_for_and_empty_regions_have_none():
    entry = table().set_index(["effect", "metric", "region"]).loc[("nominal", "dm", "all")]
    assert entry["value"] == pytest.approx(3 / 5)
    assert (entry["lo"], entry["hi"]) == pytest.approx(tuple(map(float, clopper_pearson(3, 5))))
    entry = table("wilson").set_index(["effect", "metric", "region"]).loc[("nominal", "dm", "all")]
    assert (entry["lo"], entry["hi"]) == pytest.approx(tuple(map(float, wilson(3, 5))))
    nobody = measured()
    nobody = Measured(nobody.counts, nobody.particles.iloc[:0], nobody.candidates)
    empty = table(helix_hash=nobody)
    assert empty[empty["metric"] == "dm"][["value", "lo", "hi"]].isna().all(axis=None)
    assert (empty[empty["metric"] == "dm"]["n_den"] == 0).all()


def test_the_frames_of_the_evaluation_fit():
    """Columns and counts of a real evaluation: all regions together are all particles."""
    result = evaluate_event(*worked_example(event_id=3), TruthSelection())
    counts = [(3, name, *values) for name, values in result.counts.items()]
    item = Measured(
        pd.DataFrame(counts, columns=["event_id", "metric", "num", "den"]), result.particles, result.candidates
    )
    rows = effects_table({"x": item}, {3: 0}, ["nominal"], "clopper-pearson")
    assert pair(rows, "nominal", "dm", tracker="x") == result.counts["dm"]
    assert pair(rows, "nominal", "fake_rate", tracker="x") == result.counts["fake_rate"]
    by_direction = [pair(rows, "nominal", "dm", region, "x") for region in list(REGIONS)[4:]]
    assert tuple(np.sum(by_direction, axis=0)) == result.counts["dm"]


@pytest.mark.parametrize(
    ("shard_of", "item", "message"),
    [
        ({**SHARD_OF, 21: 2}, measured(), "event 21 in shard 2, expected one shard for each of 2 variations"),
        ({10: 0, 11: 0, 20: 1}, measured(), "4 events were evaluated, 3 are in the sample"),
        (SHARD_OF, Measured(measured().counts), "effects of helix_hash: no particles or no candidates"),
    ],
)
def test_what_does_not_belong_together_is_refused(shard_of, item, message):
    with pytest.raises(InputError) as caught:
        effects_table({"helix_hash": item}, shard_of, EFFECTS, "clopper-pearson")
    assert message in str(caught.value)


def test_markdown_has_one_table_per_tracker_and_says_what_it_shows():
    text = effects_markdown(table(a=measured(), b=measured()), "4 test events (simulated)", "wilson")
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("###")] == ["### a", "### b"]
    heads = [line for line in lines if line.startswith("| Variation")]
    assert len(heads) == 2
    assert r"DM eff., 2.5 <= \|eta\| < 3" in heads[0]
    row = next(line for line in lines if line.startswith("| field 1.98 T"))
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    lo, hi = (100 * float(edge) for edge in clopper_pearson(1, 3))
    assert cells[1] == f"33.33 +{hi - 100 / 3:.2f} \N{MINUS SIGN}{100 / 3 - lo:.2f}"
    assert len(cells) == 1 + len(REGIONS) + 2
    for words in ("4 test events (simulated).", "68.27 % Wilson", "The collisions are the same"):
        assert words in text


def test_markdown_shows_a_dash_where_no_particle_is():
    item = measured()
    nobody = Measured(item.counts, item.particles[item.particles["vr"] < 1], item.candidates)
    line = effects_markdown(table(a=nobody), "x", "wilson").splitlines()[4]
    assert line.split(" | ")[3:5] == ["\N{EN DASH}", "\N{EN DASH}"]


# figure


def shown(figure):
    """Panels that are visible: label -> axes."""
    return {ax.get_xlabel().replace("\n", ", "): ax for ax in figure.axes if ax.get_visible()}


def points(ax, color):
    """x values of the markers of one colour, by row."""
    return next(line.get_xdata() for line in ax.lines if line.get_color() == color and line.get_marker() != "None")


def test_figure_has_a_panel_per_region_and_a_row_per_effect():
    header = Header(pileup=20, n_events=2, sample="TrackML-like simulation")
    rows = table(helix_hash=measured(), dbscan=measured())
    figure, data = effects_figure(rows, header, "clopper-pearson", "nominal")
    panels = shown(figure)
    assert len(panels) == 9
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == EFFECTS
    for tracker in ("helix_hash", "dbscan"):
        color = tracker_style(tracker).color
        assert points(panels["DM efficiency, all selected particles"], color) == pytest.approx([3 / 5, 1 / 3])
        assert points(panels["Fakes, all candidates, of any momentum"], color) == pytest.approx([4 / 5, 1 / 2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["helix_hash", "dbscan"]
    written = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    for words in ("TrackML-like simulation", "68.27 % Clopper-Pearson", "line: nominal", "2 events"):
        assert words in written
    assert set(data["metric"]) == {"dm", "fake_rate", "fake_all"}
    assert len(data) == 2 * 2 * 9


def test_line_of_the_nominal_variation_and_no_tick_above_one():
    figure, _ = effects_figure(table(), interval="wilson", nominal="nominal")
    ax = shown(figure)["DM efficiency, all selected particles"]
    vertical = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "None"]
    assert vertical == pytest.approx([3 / 5])
    for ax in shown(figure).values():
        assert max(ax.get_xticks()) <= 1 and min(ax.get_xticks()) >= 0
    figure, _ = effects_figure(table(), nominal=None)
    ax = shown(figure)["DM efficiency, all selected particles"]
    assert [line for line in ax.lines if line.get_marker() == "None"] == []


def test_fitted_fakes_fill_the_tenth_panel():
    rows = table(fitter=measured(fake_all_pt={10: (0, 2), 11: (1, 2), 20: (1, 1), 21: (0, 0)}), other=measured())
    figure, _ = effects_figure(rows)
    panels = shown(figure)
    assert len(panels) == 10
    ax = panels[r"Fakes, all candidates, of fitted $p_\mathrm{T}$ above the cut"]
    assert points(ax, tracker_style("fitter").color) == pytest.approx([1 / 4, 1.0])


def test_regions_without_particles_and_empty_tables_say_so():
    item = measured()
    nobody = Measured(item.counts, item.particles[item.particles["vr"] < 1], item.candidates)
    figure, _ = effects_figure(table(a=nobody))
    ax = shown(figure)["DM efficiency, secondary, 3 layers"]
    assert [text.get_text() for text in ax.texts] == ["none in these events"]
    figure, data = effects_figure(table().iloc[:0])
    assert len(data) == 0
    assert "no effect to show" in [text.get_text() for text in figure.axes[0].texts]


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(ConfigError, match="table of effects: no column 'effect'"):
        effects_figure(table().drop(columns="effect"))
