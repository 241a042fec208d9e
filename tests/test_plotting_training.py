"""Loss curves: the numbers behind them, what is marked, what is named."""

import pandas as pd
import pytest

from trackbench.errors import ConfigError
from trackbench.plotting.style import Header, save_figure
from trackbench.plotting.training import COLUMNS, loss_table, training_figure


def history(*terms):
    frame = pd.DataFrame({"step": [10, 20, 30], "epoch": [0, 0, 1], "learning_rate": [0.1, 0.2, 0.1]})
    for k, term in enumerate(terms, 1):
        frame[f"train_{term}"] = [4.0 * k, 2.0 * k, 1.0 * k]
        frame[f"val_{term}"] = [5.0 * k, 3.0 * k, 3.5 * k]
    for part in ("train", "val"):
        frame[f"{part}_total"] = frame[[f"{part}_{term}" for term in terms]].sum(axis=1)
    return frame.assign(events_per_s=100.0, seconds=1.0)


def facts(**changes):
    values = {"model": "joint", "set": "10-50", "task": "joint", "label": "demo", "best_step": 20}
    return {**values, "validation_loss": 9.0, "training_events": 4800, "parameters": 76484, **changes}


def test_loss_table_by_hand():
    table = loss_table(history("regression", "classification"), facts())
    assert tuple(table) == COLUMNS and len(table) == 9
    assert table["term"].unique().tolist() == ["regression", "classification", "total"]
    total = table[table["term"] == "total"]
    assert total["train"].tolist() == [12.0, 6.0, 3.0] and total["val"].tolist() == [15.0, 9.0, 10.5]
    assert total["best"].tolist() == [False, True, False]
    assert set(table["model"] + table["set"] + table["label"]) == {"joint10-50demo"}


def test_a_single_term_is_not_shown_twice():
    assert loss_table(history("contrastive"), facts())["term"].unique().tolist() == ["contrastive"]


def test_a_training_term_of_zero_is_absent_and_leaves_no_training_total():
    frame = history("hit", "dice")
    frame.loc[:1, "train_dice"] = 0.0
    table = loss_table(frame, facts()).set_index("term")
    assert table.loc["dice", "train"].isna().tolist() == [True, True, False]
    assert table.loc["total", "train"].isna().all() and table.loc["total", "val"].tolist() == [15.0, 9.0, 10.5]
    assert table.loc["hit", "train"].tolist() == [4.0, 2.0, 1.0]
    figure, _ = training_figure([frame, history("hit", "dice")], [facts()] * 2)
    titles = [ax.get_legend().get_title().get_text() for ax in figure.axes]
    assert ["training totals do not compare" in title for title in titles] == [True, False]
    ax = figure.axes[0]
    assert ax.get_yscale() == "log" and ax.get_ylim()[0] > 0.5
    dashed = [line.get_ydata() for line in ax.lines if line.get_linestyle() == "--"]
    assert not any((values == 0).any() for values in dashed)


def test_a_term_that_is_off_in_validation_too_leaves_the_total():
    frame = history("hit").assign(train_off=0.0, val_off=0.0)
    assert loss_table(frame, facts()).set_index("term").loc["total", "train"].tolist() == [4.0, 2.0, 1.0]


def test_figure_names_data_models_sets_and_label_and_marks_the_kept_weights(tmp_path):
    trainings = [(history("regression"), facts(model="encreg")), (history("a", "b"), facts(set="50-100", label=""))]
    header = Header(20, sample="TrackML-like simulation")
    figure, table = training_figure(*zip(*trainings, strict=True), header)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 2
    titles = [ax.get_legend().get_title().get_text() for ax in shown]
    assert titles[0] == "demo: encreg on 10-50\n76,484 weights, 4,800 events\nbest 9 at step 20"
    assert titles[1].startswith("joint on 50-100\n")
    assert [text.get_text() for text in shown[1].get_legend().get_texts()] == ["a", "b", "total"]
    stars = [line for ax in shown for line in ax.lines if line.get_marker() == "*"]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in stars] == [([20], [3.0]), ([20], [9.0])]
    dashed = [line for line in shown[0].lines if line.get_linestyle() == "--"]
    assert [line.get_ydata().tolist() for line in dashed] == [[4.0, 2.0, 1.0]]
    written = [text.get_text() for text in shown[0].texts]
    assert "TrackML-like simulation" in written and any("solid: validation" in text for text in written)
    paths = save_figure(figure, tmp_path / "training", table)
    pd.testing.assert_frame_equal(pd.read_csv(paths[2]).fillna(""), table, check_dtype=False)


def test_axes_are_logarithmic_for_large_falls_only():
    steep, flat = history("a"), history("a")
    flat.loc[:, ["train_a", "val_a", "train_total", "val_total"]] = 2.0
    negative = flat.assign(val_a=-1.0, val_total=-1.0)
    figure, _ = training_figure([steep, flat, negative], [facts()] * 3)
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear", "linear"]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 7])
def test_any_number_of_trainings(n):
    figure, table = training_figure([history("a")] * n, [facts()] * n, Header())
    assert sum(ax.get_visible() for ax in figure.axes) == max(n, 1)
    assert len(table) == 3 * n


def test_what_is_missing_is_said():
    with pytest.raises(ConfigError, match="training history: no column 'val_total'"):
        loss_table(history("a").drop(columns="val_total"), facts())
    with pytest.raises(ConfigError, match="training history: no column 'train_a'"):
        loss_table(history("a").drop(columns="train_a"), facts())
    with pytest.raises(ConfigError, match="facts of a training: no 'best_step'"):
        loss_table(history("a"), {name: value for name, value in facts().items() if name != "best_step"})
