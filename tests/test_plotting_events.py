"""Event displays and projected-hit maps: what is drawn, and that pages work offline."""

import dataclasses
import re

import numpy as np
import pytest
from toys import toy_event

from trackbench.errors import InputError
from trackbench.geometry.projection import BARREL_RADIUS
from trackbench.plotting.display3d import display_page, write_display3d
from trackbench.plotting.event_display import event_display
from trackbench.plotting.event_tracks import candidate_tracks, truth_tracks, with_gaps
from trackbench.plotting.projection import MAP_COLUMNS, projection_figure
from trackbench.plotting.style import Header, save_figure


@pytest.fixture(scope="module")
def event():
    hits, truth = toy_event(40, 30, seed=2)
    labels = np.unique(truth.particle_id, return_inverse=True)[1] - 1  # noise (id 0) becomes -1
    return hits, truth, labels


def slow_tracks(hits, truth, pt_min):
    """Particles with at least 3 hits above pt_min, highest pT first, by plain loops."""
    found = []
    for row in truth.particles.itertuples():
        n = sum(1 for pid in truth.particle_id if pid == row.particle_id)
        if row.pt >= pt_min and n >= 3:
            found.append((-row.pt, row.particle_id))
    return [pid for _, pid in sorted(found)]


# what is drawn


def test_truth_tracks_match_naive_selection(event):
    hits, truth, _ = event
    wanted = slow_tracks(hits, truth, 0.7)
    drawn = truth_tracks(hits, truth, 0.7, max_tracks=1000)
    assert drawn.n_tracks == drawn.n_total == len(wanted) > 5
    assert list(dict.fromkeys(drawn.label)) == wanted
    for number, pid in enumerate(wanted):
        rows = drawn.rows[drawn.track == number]
        assert set(rows) == set(np.flatnonzero(truth.particle_id == pid))
        assert (np.diff(np.linalg.norm(hits.xyz[rows], axis=1)) > 0).all()  # inside out


def test_limits_drop_whole_tracks(event):
    hits, truth, _ = event
    everything = truth_tracks(hits, truth, 0.5, 1000)
    few = truth_tracks(hits, truth, 0.5, max_tracks=3)
    assert few.n_tracks == 3 and few.n_total == everything.n_total
    assert list(dict.fromkeys(few.label)) == list(dict.fromkeys(everything.label))[:3]
    size = np.bincount(everything.track)
    limited = truth_tracks(hits, truth, 0.5, 1000, max_hits=int(size[:5].sum()) + 1)
    assert limited.n_tracks == 5 and limited.rows.size == size[:5].sum()


def test_invalid_hits_are_not_drawn(event):
    hits, truth, labels = event
    hidden = dataclasses.replace(hits, valid=np.zeros(len(hits), bool))
    assert truth_tracks(hidden, truth, 0.0, 1000).n_tracks == 0
    assert candidate_tracks(hidden, labels, None, 1000).n_tracks == 0


def test_candidates_take_the_colour_of_their_particle(event):
    hits, truth, labels = event
    particles = truth_tracks(hits, truth, 0.7, 1000)
    first = particles.rows[particles.track == 0]
    broken = labels.copy()
    broken[first[:2]] = 900  # a fragment of two hits ...
    broken[np.flatnonzero(labels < 0)[:3]] = 900  # ... with three noise hits: still the particle's
    broken[np.flatnonzero(labels < 0)[3:7]] = 901  # noise only: belongs to no particle
    drawn = candidate_tracks(hits, broken, particles, 1000)
    others = candidate_tracks(hits, broken, particles, 1000, others=True)
    assert 900 in drawn.label and 901 not in drawn.label and 901 in others.label
    assert set(drawn.color[drawn.label == 900]) == {particles.color[0]}
    assert not set(drawn.label) & set(others.label)
    unique = {label for label in np.unique(broken[broken >= 0]) if (broken == label).sum() >= 3}
    assert set(drawn.label) | set(others.label) == unique


def test_candidates_without_truth_are_longest_first(event):
    hits, _, labels = event
    drawn = candidate_tracks(hits, labels, None, max_tracks=4)
    size = np.bincount(labels[labels >= 0])
    assert np.bincount(drawn.track).tolist() == sorted(size.tolist(), reverse=True)[:4]


def test_with_gaps():
    values = with_gaps(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 5]))
    assert np.array_equal(values, [1.0, 2.0, np.nan, 3.0, np.nan, 4.0], equal_nan=True)
    assert with_gaps(np.empty(0), np.empty(0, int)).size == 0


# static display


def test_display_table_holds_the_coloured_hits(event, tmp_path):
    hits, truth, labels = event
    figure, table = event_display(hits, truth, labels, "dbscan", 0.7, header=Header(None, "", 1))
    counts = table.groupby("shown").size()
    assert counts["truth"] == counts["dbscan"]  # labels are perfect here
    row = table.iloc[0]
    at = np.flatnonzero(hits.hit_id == row["hit_id"])[0]
    assert [row["x"], row["y"], row["z"]] == hits.xyz[at].tolist()
    assert row["r"] == pytest.approx(np.hypot(row["x"], row["y"]))
    assert len(figure.axes) == 4
    titles = [ax.texts[0].get_text() for ax in figure.axes[::2]]
    assert titles[1].startswith("dbscan: ") and "of these particles" in titles[1]
    first = [path.read_bytes() for path in save_figure(figure, tmp_path / "a", table)]
    figure, table = event_display(hits, truth, labels, "dbscan", 0.7, header=Header(None, "", 1))
    assert first == [path.read_bytes() for path in save_figure(figure, tmp_path / "b", table)]


def test_display_says_what_is_left_out(event):
    hits, truth, _ = event
    figure, _ = event_display(hits, truth, pt_min=0.5, max_tracks=2)
    text = figure.axes[0].texts[0].get_text()
    assert re.match(r"Truth: 2 of \d+ \(highest", text)


def test_display_of_hits_only_and_of_nothing(event, tmp_path):
    hits, truth, _ = event
    figure, table = event_display(hits)
    assert len(table) == len(hits) and len(figure.axes) == 2
    nothing = hits.take(np.zeros(len(hits), bool))
    figure, table = event_display(nothing, None, np.empty(0, np.int64))
    assert len(table) == 0
    save_figure(figure, tmp_path / "none", table)
    _, table = event_display(hits, truth, np.full(len(hits), -1), "dbscan")
    assert set(table["shown"]) == {"truth"}


def test_display_errors(event):
    hits, truth, labels = event
    with pytest.raises(InputError, match=r"display: 3 labels for \d+ hits, expected one label per hit"):
        event_display(hits, truth, labels[:3])
    with pytest.raises(InputError, match=r"truth rows for 5 hits"):
        event_display(hits.take(np.arange(5)), truth)


# interactive page


def test_page_is_small_offline_and_reproducible(event, tmp_path):
    hits, truth, labels = event
    tracks = {"dbscan": labels, "hdbscan": np.where(labels % 3 == 0, -1, labels)}
    page = display_page(hits, truth, tracks, 0.7, header=Header(20, "pixel hits", 1))
    assert page == display_page(hits, truth, tracks, 0.7, header=Header(20, "pixel hits", 1))
    assert len(page.encode()) < 6_000_000
    assert "<title>trackbench: event 1</title>" in page
    assert not re.findall(r"<(?:script|link)[^>]*(?:src|href)=", page)  # nothing is loaded from elsewhere
    for name in ("hits (", "dbscan (", "hdbscan (", "hdbscan: other candidates ("):
        assert f'"name":"{name}' in page
    write_display3d(tmp_path / "event.html", hits, truth, tracks, 0.7, header=Header(20, "pixel hits", 1))
    assert (tmp_path / "event.html").read_text(encoding="utf-8") == page


def test_page_of_a_full_event_stays_below_6_mb():
    hits, truth = toy_event(1900, 45_000, seed=5)
    assert len(hits) > 50_000
    labels = np.unique(truth.particle_id, return_inverse=True)[1] - 1
    labels[labels < 0] = 10_000 + np.arange((labels < 0).sum()) // 6
    page = display_page(hits, truth, {"dbscan": labels, "hdbscan": labels}, 0.5)
    assert 5_500_000 < len(page.encode()) < 6_000_000
    assert re.search(r"hits \(\d+ of \d+\)", page) and re.search(r"dbscan: other candidates \(\d+ of \d+\)", page)


def test_page_of_nothing(event):
    hits, _, _ = event
    nothing = hits.take(np.zeros(len(hits), bool))
    page = display_page(nothing, None, {"dbscan": np.empty(0, np.int64)})
    assert '"name":"dbscan (0)"' in page and '"name":"hits (0)"' in page


def test_page_refuses_wrong_labels(event):
    hits, truth, labels = event
    with pytest.raises(InputError, match="labels for"):
        display_page(hits, truth, {"dbscan": labels[1:]})


# projected-hit maps


def test_projection_counts_every_pixel_hit(event, tmp_path):
    hits, truth, _ = event
    figure, table = projection_figure(hits, truth, 0.7)
    assert tuple(table.columns) == MAP_COLUMNS
    density = table[table["kind"] == "density"].groupby("surface")["count"].sum()
    for surface, volume in (("barrel", 8), ("endcap-", 7), ("endcap+", 9)):
        assert density.get(surface, 0) == (hits.volume_id == volume).sum()
    tracks = table[table["kind"] == "track hit"]
    assert len(tracks) == truth_tracks(hits, truth, 0.7, 1000).rows.size
    row = tracks[tracks["surface"] == "barrel"].iloc[0]
    at = np.flatnonzero(hits.hit_id == row["hit_id"])[0]
    x, y, z = hits.xyz[at]
    assert row["u"] == pytest.approx(np.arctan2(y, x))
    assert row["w"] == pytest.approx(BARREL_RADIUS * z / np.hypot(x, y))
    assert row["particle_id"] == truth.particle_id[at]
    row = tracks[tracks["surface"] == "endcap+"].iloc[0]
    x, y, z = hits.xyz[np.flatnonzero(hits.hit_id == row["hit_id"])[0]]
    assert (row["u"], row["w"]) == pytest.approx((x * 920 / z, y * 920 / z))
    save_figure(figure, tmp_path / "projection", table)


def test_projection_without_hits_or_tracks(event, tmp_path):
    hits, truth, _ = event
    barrel = hits.take(hits.volume_id == 8)
    figure, table = projection_figure(barrel)
    assert set(table["surface"]) == {"barrel"}
    assert [text.get_text() for ax in figure.axes for text in ax.texts].count("no hit here") == 2
    figure, table = projection_figure(hits, truth, pt_min=1e6)
    assert set(table["kind"]) == {"density"}
    save_figure(figure, tmp_path / "none", table)
