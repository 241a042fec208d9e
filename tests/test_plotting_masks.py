"""Figures of attention masks: what is drawn is in the table, and hardly any data do not break them."""

import numpy as np
import pandas as pd
import pytest

from trackbench.errors import ConfigError
from trackbench.plotting.masks import mask_figure, mask_scaling_figure
from trackbench.plotting.style import Header, save_figure

SETUP = "4 heads of 8, float32, a machine, 1 thread"


def toy_table(sizes=(1000,)):
    rows = []
    for n_hits in sizes:
        for mask, kind, share, recall in [
            ("all pairs", "padding", 1.0, 1.0),
            ("cluster", "cluster", 0.0006, 0.4),
            ("cone 0.3", "cone", 0.007, 0.7),
            ("cone 0.7", "cone", 0.03, 0.9),
        ]:
            for backend in ("sdpa", "varlen") if kind != "cone" else ("sdpa",):
                facts = {
                    "mask": mask,
                    "kind": kind,
                    "backend": backend,
                    "n_hits": n_hits,
                    "timed_hits": n_hits,
                    "share": share,
                }
                costs = {"wall_ms": n_hits / 100, "memory_mb": 0.0 if backend == "varlen" else n_hits / 50}
                rows.append(facts | {"recall": recall, "recall_pt": min(recall + 0.05, 1.0)} | costs)
    return pd.DataFrame(rows)


def test_recall_and_costs(tmp_path):
    figure, table = mask_figure(toy_table(), SETUP, Header(20, n_events=2, sample="TrackML-like simulation"))
    recall, time, memory = figure.axes
    points = [line.get_xydata().tolist() for line in recall.lines if line.get_marker() != "None"]
    assert [0.0006, 0.4] in (point[0] for point in points)
    assert [0.0006, pytest.approx(0.45)] in (point[0] for point in points)
    assert len(points) == 8
    assert len({(line.get_color(), line.get_marker()) for line in recall.lines if line.get_marker() != "None"}) == 4
    assert [bar.get_width() for bar in time.patches] == [10.0] * 6
    assert sorted(bar.get_width() for bar in memory.patches)[-1] == 20.0
    assert [label.get_text() for label in time.get_yticklabels()] == ["all pairs", "cluster", "cone 0.3", "cone 0.7"]
    assert any("a machine" in text.get_text() for text in recall.texts)
    for path in save_figure(figure, tmp_path / "masks", table):
        assert path.stat().st_size > 300


def test_costs_against_hits(tmp_path):
    figure, table = mask_scaling_figure(toy_table((500, 1000, 2000)), SETUP)
    assert len(figure.axes[0].lines) == 6
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[500, 5], [1000, 10], [2000, 20]]
    assert all(path.exists() for path in save_figure(figure, tmp_path / "sizes", table))


@pytest.mark.parametrize("figure_of", [mask_figure, mask_scaling_figure])
def test_hardly_any_data(figure_of):
    nothing = toy_table().assign(recall=np.nan, recall_pt=np.nan, share=np.nan, memory_mb=0.0)
    for table in (toy_table().iloc[:0], toy_table().iloc[:1], nothing):
        figure_of(table, SETUP)[0].draw_without_rendering()
    with pytest.raises(ConfigError, match="mask table: no column 'wall_ms'"):
        figure_of(toy_table().drop(columns="wall_ms"), SETUP)
