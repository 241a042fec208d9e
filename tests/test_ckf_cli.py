"""``trackbench reconstruct ckf``: files, settings, refusals, and what happens without the package acts."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trackbench.cli import main as entry
from trackbench.data.tracks import PARAMETER_COLUMNS
from trackbench.errors import InputError
from trackbench.geometry.detector import is_pixel
from trackbench.geometry.modules import module_row, module_table
from trackbench.trackers.base import build_tracker

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT.parent / "shared/data/trackml-sample"
OFF = "the Kalman filter needs x, y, z and module_id of the TrackML detector."


@pytest.fixture(scope="module")
def acts():
    return pytest.importorskip("acts", reason="the extra 'ckf' is not installed")


@pytest.fixture(scope="module")
def tables(acts):
    """Raw tables of a simulated event with pixel and strip hits."""
    from gun_events import gun_tables

    return gun_tables(1, n_tracks=40)


@pytest.fixture(scope="module")
def events(tables, tmp_path_factory):
    """Prefix of the event as csv, csv.gz and parquet."""
    folder = tmp_path_factory.mktemp("events")
    return {
        suffix: write(tables.hits, folder / suffix.strip("."), suffix) for suffix in (".csv", ".csv.gz", ".parquet")
    }


@pytest.fixture
def refuse(tmp_path, capsys):
    """Call ``reconstruct ckf`` on an event, expect exit code 2, one sentence and no output; return the sentence."""

    def call(prefix, *options):
        out = tmp_path / "refused"
        code = entry.main(["--quiet", "reconstruct", "ckf", str(prefix), "--out", str(out), *options])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        assert captured.err.count("\n") == 1 and captured.err.startswith("trackbench: error: ")
        assert not out.exists() or not list(out.iterdir())
        return captured.err.removeprefix("trackbench: error: ").rstrip("\n")

    return call


def write(hits, folder, suffix=".csv", event_id=7):
    """Write the file of hits of an event and return its prefix."""
    folder.mkdir(parents=True)
    prefix = folder / f"event{event_id:09d}"
    path = f"{prefix}-hits{suffix}"
    hits.to_parquet(path, index=False) if suffix == ".parquet" else hits.to_csv(path, index=False)
    return prefix


def reconstruct(prefix, out, *options):
    """Call the command; returns part -> table of the files it wrote."""
    assert entry.main(["--quiet", "reconstruct", "ckf", str(prefix), "--out", str(out), *options]) == 0
    return {path.stem.partition("-")[2]: pd.read_csv(path) for path in sorted(out.iterdir())}


# Files


@pytest.mark.parametrize("options", [(), ("--pixel-only",)], ids=["full", "pixel"])
def test_files_from_every_format(events, tables, tmp_path, options):
    written = {suffix: reconstruct(prefix, tmp_path / suffix, *options) for suffix, prefix in events.items()}
    found = written[".csv"]
    assert set(found) == {"tracks", "parameters", "vertices"}
    for other in (".csv.gz", ".parquet"):
        for part, table in found.items():
            pd.testing.assert_frame_equal(written[other][part], table, check_exact=True)
    tracks, parameters = found["tracks"], found["parameters"]
    np.testing.assert_array_equal(tracks["hit_id"], tables.hits["hit_id"])
    n_tracks = tracks["track_id"].max() + 1
    assert n_tracks > 20
    assert tuple(parameters.columns) == PARAMETER_COLUMNS
    np.testing.assert_array_equal(parameters["track_id"], np.arange(n_tracks))
    strip_tracks = tracks.loc[~is_pixel(tables.hits["volume_id"]), "track_id"]
    assert (strip_tracks == -1).all() if options else (strip_tracks >= 0).sum() > 50
    # The vertices of the gun, from the parameters.
    true_z = tables.particles.loc[np.hypot(tables.particles["vx"], tables.particles["vy"]) < 1e-6, "vz"].unique()
    assert len(found["vertices"]) >= 2
    assert np.abs(found["vertices"]["z"].to_numpy()[:, None] - true_z).min(axis=1).max() < 1.0


def test_settings_from_a_file(events, tmp_path, refuse):
    config = tmp_path / "settings.yaml"
    config.write_text("stop_after: finding\nmin_pt: 0.5\n")
    assert set(reconstruct(events[".csv"], tmp_path / "finding", "--config", str(config))) == {
        *("tracks", "parameters", "vertices")
    }
    config.write_text("stop_after: seeding\n")
    seeds = reconstruct(events[".csv"], tmp_path / "finding", "--config", str(config))  # takes the others' files away
    assert set(seeds) == {"tracks"}
    assert np.bincount(seeds["tracks"]["track_id"] + 1)[1:].max() == 3
    config.write_text("stop_after: fit\n")
    message = refuse(events[".csv"], "--config", str(config))
    expected = "trackers.ckf.stop_after: value 'fit', expected one of seeding, finding, ambiguity."
    assert message == f"{config}: {expected}"
    config.write_text("maximum_pt: 1\n")
    assert "trackers.ckf.maximum_pt: unknown key" in refuse(events[".csv"], "--config", str(config))


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.exists(), reason="no real TrackML sample beside the repository")
@pytest.mark.parametrize("detector", ["pixel", "full"])
def test_real_event(acts, tmp_path, capsys, detector):
    """The thinned real event, whose beam spot is ten times longer than that of the simulation."""
    config = tmp_path / "settings.yaml"
    config.write_text("max_z0: 180.0\n")
    out, pixel = tmp_path / "out", detector == "pixel"
    reconstruct(SAMPLE / "event000000001", out, "--config", str(config), *(["--pixel-only"] if pixel else []))
    capsys.readouterr()
    scored = ["--truth", str(SAMPLE), "--tracks", str(out), "--json", *([] if pixel else ["--full-detector"])]
    assert entry.main(["--quiet", "evaluate", *scored]) == 0
    (metrics,) = json.loads(capsys.readouterr().out)["tracks"].values()
    assert metrics["dm"]["value"] > 0.9


# Bad input


def change(column, value):
    def changed(hits):
        hits.loc[3, column] = value
        return hits

    return changed


def along_the_module(distance):
    """Move a hit in the plane of its module."""

    def changed(hits):
        row = module_row(*(hits.loc[[3], name] for name in ("volume_id", "layer_id", "module_id")))[0]
        hits.loc[3, ["x", "y", "z"]] += distance * module_table().rotation[row][:, 1]
        return hits

    return changed


def in_centimetres(hits):
    hits[["x", "y", "z"]] /= 10
    return hits


def of_another_detector(hits):
    """Modules numbered otherwise."""
    return hits.assign(module_id=hits["module_id"] % 50 + 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("module_id", 5000), "1 hits on an unknown module (first: hit_id 4 on volume 7 layer 2 module 5000)"),
        (change("volume_id", 10), "1 hits on an unknown module (first: hit_id 4 on volume 10 layer 2 module "),
        (change("x", np.nan), "in column x, row 4, expected a number"),
        (change("x", np.inf), "1 non-finite values in column x (first: hit_id 4 has inf)"),
        (change("y", 1e300), "1 non-finite values in column y (first: hit_id 4 has inf)"),
        (change("z", -1400.5), "event 7: 1 hits off the plane of their module (first hit_id 4, by "),
        (along_the_module(1e9), "event 7: 1 hits beyond the edge of their module (first hit_id 4, by 1e+09 mm)"),
        (along_the_module(90), "event 7: 1 hits beyond the edge of their module (first hit_id 4, by "),
        (in_centimetres, "hits off the plane of their module (first hit_id 1, by "),
        (of_another_detector, "hits off the plane of their module (first hit_id "),
    ],
    ids=lambda value: None if isinstance(value, str) else getattr(value, "__name__", None),
)
def test_bad_hits_are_refused_in_one_sentence(tables, tmp_path, refuse, changed, message):
    prefix = write(changed(tables.hits.copy()), tmp_path / "bad")
    found = refuse(prefix)
    assert message in found
    assert found.endswith(OFF if "event 7: " in found else "download or simulate the event again.")


@pytest.mark.parametrize("value", [1e300, -1.7e308])
def test_huge_positions_from_python(acts, value):
    """In float64, where a file has float32."""
    from gun_events import gun_event

    hits, _ = gun_event(1)
    xyz = hits.xyz.copy()
    xyz[5] = value
    with pytest.raises(InputError, match=r"hits (off the plane|beyond the edge) of their module"):
        build_tracker("ckf").reconstruct(replace(hits, xyz=xyz))


def test_ids_that_only_look_like_those_of_a_module(acts):
    from gun_events import gun_event

    hits, _ = gun_event(1)
    module_id = hits.module_id.copy()
    module_id[5] += 1 << 17
    layer_id = hits.layer_id.copy()
    layer_id[5] -= 2
    name = f"{hits.volume_id[5]}/{layer_id[5]}/{module_id[5]}"
    with pytest.raises(InputError, match=rf"1 hits on unknown modules \(first hit_id {hits.hit_id[5]} on {name}\)"):
        build_tracker("ckf").reconstruct(replace(hits, module_id=module_id, layer_id=layer_id))


def test_a_large_event_of_noise(acts):
    """20,000 hits: measured 200,000 take 11 CPU s, of which the test takes its part only."""
    from toys import module_event

    hits, _ = module_event(n_tracks=0, n_noise=20_000, seed=1)
    labels = build_tracker("ckf").reconstruct(hits)
    assert np.count_nonzero(labels >= 0) < 2_000, "chance candidates took more than a tenth of the noise"


# Without the package


@pytest.fixture
def without_acts(monkeypatch):
    for name in ("acts", "acts.examples"):
        monkeypatch.setitem(sys.modules, name, None)


def missing_acts(folder):
    hits = pd.DataFrame({"hit_id": [1], "x": [32.0], "y": [0.0], "z": [0.0]})
    return write(hits.assign(volume_id=8, layer_id=2, module_id=1), folder)


def test_without_acts_one_sentence_says_what_to_install(without_acts, tmp_path, refuse):
    message = "the tracker ckf: the package 'acts' is not installed; run pip install 'trackbench[ckf]'."
    assert refuse(missing_acts(tmp_path / "events")) == message


def test_acts_that_cannot_be_loaded_is_not_called_missing(monkeypatch, tmp_path, refuse):
    """As with a wheel for a newer C library, or a package of the same name."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "acts"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    cause, prefix = "libc.so.6: version GLIBC_2.34 not found", missing_acts(tmp_path / "events")
    start = "the tracker ckf: the package 'acts' is installed but cannot be loaded"
    end = "; see Installation in docs/ckf.md for the systems that it runs on."
    (tmp_path / "acts").mkdir()
    (tmp_path / "acts/__init__.py").write_text(f'raise ImportError("{cause}\\n(wanted by acts)")\n')
    assert refuse(prefix) == f"{start} ({cause} (wanted by acts)){end}"
    (tmp_path / "acts/__init__.py").write_text("")  # without acts.examples
    importlib.invalidate_caches()
    assert refuse(prefix) == f"{start} (No module named 'acts.examples'){end}"
    del sys.modules["acts"]  # the real one, if any, comes back after the test


def test_trackers_are_listed_without_acts(without_acts, capsys):
    assert entry.main(["trackers", "ckf"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("ckf: Combinatorial Kalman filter of ACTS")
    for name in ("min_pt", "max_z0", "max_d0", "stop_after"):
        assert f"  {name} " in text


def test_in_a_process_that_cannot_import_acts(tmp_path):
    """The command as a user calls it, and the whole list of trackers."""
    prefix = missing_acts(tmp_path / "events")
    code = "import sys; sys.modules['acts'] = None; from trackbench.cli.main import main; sys.exit(main(sys.argv[1:]))"

    def call(*arguments):
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)

    done = call("--quiet", "reconstruct", "ckf", str(prefix), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'trackbench[ckf]'" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    listed = call("trackers")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "\nckf: " in listed.stdout or listed.stdout.startswith("ckf: ")
