"""The ``trackbench`` command: what it prints, what it writes, and how it refuses."""

import dataclasses
import io
import json
import logging
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doc_examples import example_block
from toy_files import toy_frames, write_toy_event
from toy_trackers import ToyFitter

import trackbench
from trackbench.cli import main as entry
from trackbench.cli.trackers import default_text, field_docs
from trackbench.data.hits import Hits
from trackbench.data.prepare import DataSelection, build_event
from trackbench.data.tracks import PARAMETER_COLUMNS, PARAMETERS, TrackParameters, Tracks
from trackbench.evaluation.definitions import FITTED_METRICS, METRICS
from trackbench.evaluation.fit_quality import STATISTICS, half_width
from trackbench.evaluation.intervals import clopper_pearson, event_bootstrap
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.residuals import true_perigee
from trackbench.trackers.base import build_tracker, load_module, tracker_names

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(capsys):
    """Call the command in this process: returns exit code, stdout, stderr."""

    def call(*argv):
        try:
            code = entry.main([str(arg) for arg in argv])
        except SystemExit as stop:  # argparse
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refuse(command):
    """Call the command, expect exit code 2 and one sentence on stderr after any progress; return it."""

    def call(*argv):
        code, out, err = command("--quiet", *argv)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1 and err.startswith("trackbench: error: ") and err.endswith((".\n", "?\n")), err
        return err.removeprefix("trackbench: error: ").rstrip("\n")

    return call


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Directory with toy events 1 to 3, with truth, as csv."""
    directory = tmp_path_factory.mktemp("events")
    for event_id in (1, 2, 3):
        write_toy_event(directory, event_id)
    return directory


@pytest.fixture
def tracks(events, tmp_path, command):
    """Tracks of dbscan for these events."""
    assert command("reconstruct", "dbscan", events, "--out", tmp_path / "dbscan")[0] == 0
    return tmp_path / "dbscan"


# The command as a whole


def test_version(command):
    assert command("--version") == (0, f"trackbench {trackbench.__version__}\n", "")


def test_help_names_all_commands_and_is_fast():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [sys.executable, "-m", "trackbench.cli.main", "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    for name in ("simulate", "trackers", "reconstruct", "evaluate", "display"):
        assert name in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("name", ["simulate", "trackers", "reconstruct", "evaluate", "display", "compare", "compile"])
def test_help_of_each_command(command, name):
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert f"usage: trackbench {name}" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["evaluat"], "invalid choice: 'evaluat'"),
        (["simulate", "--events", "1"], "required: --pileup, --out"),
        (["simulate", "--events", "one", "--pileup", "0", "--out", "x"], "invalid int value: 'one'"),
        (["reconstruct", "dbscan", "x"], "required: --out"),
        (["reconstruct", "dbscan", "x", "--out", "y", "--pixelonly"], "unrecognized arguments: --pixelonly"),
    ],
)
def test_wrong_usage_is_exit_code_2(command, argv, message):
    code, out, err = command(*argv)
    assert (code, out) == (2, "")
    assert message in err


def test_interrupt_is_exit_code_130_without_traceback(command, monkeypatch):
    def interrupt(module):
        raise KeyboardInterrupt

    monkeypatch.setattr("trackbench.trackers.base.load_module", interrupt)
    assert command("trackers") == (130, "", "trackbench: interrupted\n")


def test_defects_are_not_hidden(command, monkeypatch):
    def defect(module):
        raise ZeroDivisionError

    monkeypatch.setattr("trackbench.trackers.base.load_module", defect)
    with pytest.raises(ZeroDivisionError):
        command("trackers")


def test_a_reader_that_stops_early_is_no_error():
    pipeline = f"{sys.executable} -m trackbench.cli.main trackers | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True)
    assert done.stdout.startswith(tracker_names()[0])
    assert done.stderr == ""


def test_file_that_cannot_be_written(refuse, events, tmp_path):
    (tmp_path / "file").write_text("")
    message = refuse("reconstruct", "dbscan", events, "--out", tmp_path / "file" / "tracks")
    assert message == f"{tmp_path / 'file' / 'tracks'}: Not a directory."


def test_logging_is_taken_back(command):
    logger = logging.getLogger("trackbench")
    before = (list(logger.handlers), logger.level)
    command("trackers", "dbscan")
    assert (list(logger.handlers), logger.level) == before


def documented_commands():
    """Every line of the documents' code blocks that calls trackbench."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"^```sh\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            yield from (line for line in block.replace("\\\n", " ").splitlines() if line.startswith("trackbench "))


def test_documented_commands_are_valid():
    commands = list(documented_commands())
    assert {line.split()[1] for line in commands} >= {"simulate", "trackers", "reconstruct", "evaluate", "display"}
    for line in commands:
        args = entry.build_parser().parse_args(shlex.split(line, comments=True)[1:])
        assert callable(args.run), line


def test_progress_is_a_bar_on_a_terminal(events, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert entry.main(["reconstruct", "dbscan", str(events), "--out", str(tmp_path)]) == 0
    assert "3/3" in terminal.getvalue()


# trackers


def test_trackers_lists_every_tracker_and_setting(command):
    code, out, err = command("trackers")
    assert (code, err) == (0, "")
    blocks = {block.partition(":")[0]: block for block in out.rstrip("\n").split("\n\n")}
    assert list(blocks) == tracker_names()
    for name, block in blocks.items():
        module = load_module(name)
        summary = module.__doc__.partition("\n")[0].replace("``", "")
        assert block.startswith(f"{name}: {summary}\n")
        for field in dataclasses.fields(module.Config):
            assert re.search(rf"^  {field.name} +{re.escape(default_text(field))} +\S", block, re.MULTILINE), field.name


def test_trackers_by_name(command, refuse):
    assert command("trackers", "helix_hash")[1].startswith("helix_hash: ")
    assert "'dbscn': does not exist" in refuse("trackers", "dbscn")
    assert "did you mean 'dbscan'?" in refuse("trackers", "dbscn")


def test_setting_documentation_is_read_from_docstrings():
    @dataclasses.dataclass
    class Base:
        """Options.

        width: of the window [mm]
        """

        width: float = 1.0

    @dataclasses.dataclass
    class Config(Base):
        """More options, note: not a setting.

        low, high: the range,
            continued
        flag: one; names: of two, not: a setting; and three
        Sentence about something: width.
        """

        low: int = 1
        high: int = 2
        flag: bool = True
        names: list = dataclasses.field(default_factory=lambda: ["a"])
        needed: int = dataclasses.field(kw_only=True)

    assert field_docs(Config) == {
        "width": "of the window [mm]",
        "low": "the range, continued",
        "high": "the range, continued",
        "flag": "one",
        "names": "of two, not: a setting; and three",
    }
    fields = {field.name: default_text(field) for field in dataclasses.fields(Config)}
    expected = {"width": "1.0", "low": "1", "high": "2", "flag": "true", "names": "['a']", "needed": "(required)"}
    assert fields == expected


# reconstruct


def expected_tracks(event_id, tracker="dbscan", settings=None, pixel=False):
    frame, _, _ = toy_frames(event_id)
    hits = Hits.from_frame(frame, event_id)
    if pixel:
        hits = dataclasses.replace(hits, valid=np.isin(hits.volume_id, (7, 8, 9)))
    return build_tracker(tracker, settings).reconstruct(hits)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_reconstruct_an_event_without_truth(command, tmp_path, suffix):
    prefix = write_toy_event(tmp_path / "in", 1000, suffix, parts=("hits",))
    code, out, err = command("reconstruct", "dbscan", prefix, "--out", tmp_path / "out")
    assert (code, out, err) == (0, "", "trackbench: event 1 of 1\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["event000001000-tracks.csv"]
    written = pd.read_csv(tmp_path / "out/event000001000-tracks.csv")
    assert list(written.columns) == ["hit_id", "track_id"]
    np.testing.assert_array_equal(written["hit_id"], toy_frames(1000)[0]["hit_id"])
    np.testing.assert_array_equal(written["track_id"], expected_tracks(1000))
    assert (written["track_id"] >= 0).any()


def test_reconstruct_a_directory_and_a_zip(command, events, tracks, tmp_path):
    names = [f"event{event_id:09d}-tracks.csv" for event_id in (1, 2, 3)]
    assert sorted(path.name for path in tracks.iterdir()) == names
    archive = shutil.make_archive(str(tmp_path / "events"), "zip", events)
    assert command("reconstruct", "dbscan", archive, "--out", tmp_path / "from-zip")[0] == 0
    for name in names:
        assert (tracks / name).read_bytes() == (tmp_path / "from-zip" / name).read_bytes()


def test_reconstruct_pixel_only_leaves_strip_hits_unassigned(command, events, tmp_path):
    # helix_hash ignores strip hits by itself, so a tracker that would take them stands in.
    class Everything:
        def reconstruct_tracks(self, hits):
            return Tracks(np.where(hits.valid, 0, -1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trackbench.trackers.base.build_tracker", lambda *args: Everything())
        for option in ([], ["--pixel-only"]):
            out = tmp_path / f"out{len(option)}"
            assert command("reconstruct", "dbscan", events / "event000000001", "--out", out, *option)[0] == 0
    volume = toy_frames(1)[0]["volume_id"].to_numpy()
    everything, pixel = (pd.read_csv(tmp_path / f"out{n}/event000000001-tracks.csv")["track_id"] for n in (0, 1))
    assert (everything == 0).all()
    np.testing.assert_array_equal(pixel, np.where(volume == 13, -1, 0))
    assert (volume == 13).sum() == 5


@pytest.fixture
def fitter(monkeypatch):
    """A tracker with parameters stands in for every other."""
    monkeypatch.setattr("trackbench.trackers.base.build_tracker", lambda *args: ToyFitter())


def test_reconstruct_writes_parameters_and_vertices(command, fitter, events, tmp_path):
    assert command("reconstruct", "dbscan", events, "--out", tmp_path)[0] == 0
    names = [f"event{n:09d}-{part}.csv" for n in (1, 2, 3) for part in ("parameters", "tracks", "vertices")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    hits = Hits.from_frame(toy_frames(2)[0], 2)
    table = pd.read_csv(tmp_path / "event000000002-parameters.csv")
    assert tuple(table) == PARAMETER_COLUMNS
    assert (table["event_id"] == 2).all()
    expected = ToyFitter().reconstruct_tracks(hits)
    assert TrackParameters.from_frame(table).equals(expected.parameters)  # to the last digit
    tracks = pd.read_csv(tmp_path / "event000000002-tracks.csv")
    assert set(tracks["track_id"]) == set(table["track_id"]) | {-1}
    vertices = pd.read_csv(tmp_path / "event000000002-vertices.csv")
    assert list(vertices) == ["event_id", "z", "sigma_z", "n_tracks"]
    np.testing.assert_allclose(vertices["z"], [0, 10, 20], atol=1e-12)
    assert vertices["n_tracks"].tolist() == np.bincount((table["z0"] / 10).astype(int)).tolist()
    # Each z0 has an error of 0.1 mm.
    np.testing.assert_allclose(vertices["sigma_z"], 0.1 / np.sqrt(vertices["n_tracks"]), rtol=1e-9)


def test_parameters_of_another_tracker_do_not_stay_beside_new_tracks(command, events, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trackbench.trackers.base.build_tracker", lambda *args: ToyFitter())
        assert command("reconstruct", "dbscan", events, "--out", tmp_path)[0] == 0
    assert command("reconstruct", "dbscan", events / "event000000002", "--out", tmp_path)[0] == 0
    assert [path.name for path in sorted(tmp_path.glob("event000000002-*"))] == ["event000000002-tracks.csv"]
    assert len(list(tmp_path.glob("event000000001-*"))) == 3


@pytest.mark.parametrize("part", ["tracks", "parameters", "vertices"])
def test_a_file_that_cannot_be_written_leaves_none(refuse, fitter, events, tmp_path, monkeypatch, part):
    def full(frame, path, *args, **options):
        Path(path).write_text("half")
        if Path(path).name.endswith(f"{part}.csv"):
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    message = refuse("reconstruct", "dbscan", events, "--out", tmp_path)
    assert message.endswith(
        "cannot be written (No space left on device); make room and run again: what is finished is kept."
    )
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_files_of_a_fit(command):
    out = " ".join(command("reconstruct", "--help")[1].split())
    assert "event000001000-parameters.csv" in out and "event000001000-vertices.csv" in out


@pytest.mark.parametrize(
    "text",
    ["barrel_eps: 1.0\nmin_samples: 2\n", '{"tracker": "dbscan", "settings": {"barrel_eps": 1, "min_samples": 2}}'],
    ids=["yaml", "tuned json"],
)
def test_reconstruct_with_settings(command, events, tmp_path, text):
    (tmp_path / "settings").write_text(text)
    prefix = events / "event000000002"
    arguments = ("--out", tmp_path, "--config", tmp_path / "settings")
    assert command("reconstruct", "dbscan", prefix, *arguments)[0] == 0
    written = pd.read_csv(tmp_path / "event000000002-tracks.csv")["track_id"]
    expected = expected_tracks(2, settings={"barrel_eps": 1.0, "min_samples": 2})
    np.testing.assert_array_equal(written, expected)
    assert not np.array_equal(expected, expected_tracks(2))


def test_an_empty_settings_file_means_the_defaults(command, events, tracks, tmp_path):
    (tmp_path / "settings.yaml").write_text("# nothing\n")
    arguments = ("--out", tmp_path, "--config", tmp_path / "settings.yaml")
    assert command("reconstruct", "dbscan", events / "event000000001", *arguments)[0] == 0
    name = "event000000001-tracks.csv"
    assert (tmp_path / name).read_bytes() == (tracks / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("barel_eps: 1\n", r"settings: trackers\.dbscan\.barel_eps: unknown key, .* did you mean 'barrel_eps'\?"),
        ("barrel_eps: wide\n", r"settings: trackers\.dbscan\.barrel_eps: value 'wide' is a str, expected a float"),
        ("barrel_eps: -1\n", r"settings: trackers\.dbscan\.barrel_eps: value -1\.0, expected"),
        ("- barrel_eps\n", r"settings: holds a list, expected a mapping"),
        ("a: [\n", r"settings: is not YAML \(.*line 2"),
        ("1: 2\n", r"settings: holds a dict, expected a mapping"),
        ('{"tracker": "hdbscan", "settings": {}}', r"settings of tracker 'hdbscan', expected those of 'dbscan'"),
    ],
)
def test_reconstruct_refuses_wrong_settings(refuse, events, tmp_path, text, message):
    (tmp_path / "settings").write_text(text)
    arguments = ("--out", tmp_path / "out", "--config", tmp_path / "settings")
    assert re.search(message, refuse("reconstruct", "dbscan", events, *arguments))
    assert not (tmp_path / "out").exists()


def test_reconstruct_refuses_what_is_not_there(refuse, events, tmp_path):
    out = ("--out", tmp_path / "out")
    event = events / "event000000001"
    assert "tracker 'dbscam': does not exist" in refuse("reconstruct", "dbscam", event, *out)
    assert "no hits file" in refuse("reconstruct", "dbscan", events / "event000000009", *out)
    assert "is not an event, expected a prefix" in refuse("reconstruct", "dbscan", events / "event7", *out)
    message = refuse("reconstruct", "dbscan", f"{event}-hits.csv", *out)
    assert f"is one file of an event, expected a prefix or a directory; give the prefix {event}." in message
    assert "no events" in refuse("reconstruct", "dbscan", tmp_path, *out)
    assert "event 1 is given twice" in refuse("reconstruct", "dbscan", events, event, *out)
    message = refuse("reconstruct", "dbscan", event, *out, "--config", tmp_path / "no.yaml")
    assert message == f"--config {tmp_path / 'no.yaml'}: cannot be read (No such file or directory)."
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_for_an_untrained_tracker_is_refused(refuse, events, tmp_path):
    message = refuse("reconstruct", "dbscan", events, "--out", tmp_path / "out", "--checkpoint", "model.pt")
    assert "--checkpoint model.pt: tracker 'dbscan' needs no training and has nothing to load" in message
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_there_are_refused_before_any_event(refuse, events, tmp_path):
    (tmp_path / "encreg.json").write_text('{"tracker": "encreg", "settings": {"checkpoint": "results/none.pt"}}')
    arguments = ("reconstruct", "encreg", events, "--out", tmp_path / "out", "--config", tmp_path / "encreg.json")
    message = refuse(*arguments)
    assert f"--config {tmp_path / 'encreg.json'}: the weights it names, results/none.pt, are not there" in message
    assert str(Path.cwd()) in message and "--checkpoint FILE" in message
    message = refuse(*arguments, "--checkpoint", tmp_path)  # which goes first
    assert message == f"--checkpoint {tmp_path}: is a folder, expected a file of trained weights."
    assert not (tmp_path / "out").exists()


def test_a_bad_event_leaves_no_file_of_it(refuse, tmp_path):
    prefix = write_toy_event(tmp_path / "in", 1)
    path = Path(f"{prefix}-hits.csv")
    path.write_text(path.read_text().replace("\n2,", "\n1,", 1))
    assert "1 duplicate hit_id (first 1)" in refuse("reconstruct", "dbscan", prefix, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# evaluate


def test_evaluate_gives_the_pooled_metrics(command, events, tracks):
    code, out, err = command("--quiet", "evaluate", "--truth", events, "--tracks", tracks, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["n_events"], result["hits"]) == (3, "pixel hits, noise kept")
    metrics = result["tracks"][str(tracks)]
    for metric in ("dm", "fake_rate", "perfect", "trackml_score", "n_hits"):
        num, den = (sum(values) for values in zip(*toy_counts(metric), strict=True))
        np.testing.assert_allclose([metrics[metric][name] for name in ("num", "den")], [num, den])
        np.testing.assert_allclose(metrics[metric]["value"], num / den)
    absent = {name for name in METRICS if name.endswith("_postfilter")}
    assert METRICS.keys() - metrics.keys() == absent | set(FITTED_METRICS)
    dm = metrics["dm"]
    np.testing.assert_allclose((dm["lo"], dm["hi"]), clopper_pearson(dm["num"], dm["den"]))
    assert 0 < dm["lo"] < dm["value"] < dm["hi"] < 1


def test_evaluate_table_has_a_column_per_directory(command, events, tracks, tmp_path):
    assert command("reconstruct", "helix_hash", events, "--out", tmp_path / "helix_hash")[0] == 0
    code, out, err = command("evaluate", "--truth", events, "--tracks", tracks, tmp_path / "helix_hash")
    assert (code, err) == (0, "".join(f"trackbench: event {k} of 3\n" for k in (1, 2, 3)))
    lines = out.splitlines()
    assert lines[0].split() == ["dbscan", "helix_hash"]
    titles = ["DM efficiency", "Fake rate (purity)", "LHC purity", "TrackML score", "FitAccuracy", "Duplicate rate"]
    for title in titles:
        (line,) = [line for line in lines if line.startswith(f"{title}  ")]
        assert len(re.findall(r"\d\.\d{4}(?: \[\d\.\d{4}, \d\.\d{4}\])?", line.removeprefix(title))) == 2
    assert lines[-2] == "3 events pooled; pixel hits, noise kept; particles: pT >= 0.9 GeV, |eta| < 4, >= 3 layers"
    assert lines[-1].startswith("[ ]: 68.27 %, Clopper-Pearson")


def test_directories_of_the_same_name_are_told_apart(command, events, tracks, tmp_path):
    other = tmp_path / "other/dbscan"
    shutil.copytree(tracks, other)
    code, out, _ = command("evaluate", "--truth", events, "--tracks", tracks, other)
    assert code == 0
    assert out.splitlines()[0].split() == [str(tracks), str(other)]


def test_evaluate_selection_options(command, events, tracks):
    def targets(*options):
        code, out, _ = command("evaluate", "--truth", events, "--tracks", tracks, "--json", *options)
        assert code == 0
        metrics = json.loads(out)["tracks"][str(tracks)]
        return metrics["n_targets"]["num"], metrics["n_hits"]["num"]

    particles = pd.concat([build_event(toy_frames(k), DataSelection(), k)[1].particles for k in (1, 2, 3)])
    enough = particles["n_layers"] >= 3
    assert targets()[0] == (enough & (particles["pt"] >= 0.9) & (particles["eta"].abs() < 4)).sum()
    hard = targets("--pt-min", "1.5", "--pt-operator", ">", "--eta-max", "2", "--min-layers", "4")[0]
    assert hard == ((particles["n_layers"] >= 4) & (particles["pt"] > 1.5) & (particles["eta"].abs() < 2)).sum()
    assert targets("--full-detector")[1] == targets()[1] + 3 * 5  # the strip hits


def test_evaluate_intervals_and_differences(command, events, tracks, tmp_path):
    """k of n: Clopper-Pearson; other ratios: event bootstrap; second directory: differences to the first."""
    assert command("reconstruct", "helix_hash", events, "--out", tmp_path / "helix_hash")[0] == 0
    directories = [str(tracks), str(tmp_path / "helix_hash")]
    result = json.loads(command("evaluate", "--truth", events, "--tracks", *directories, "--json")[1])
    first, second = (result["tracks"][directory] for directory in directories)
    num, den = (np.array(values) for values in zip(*toy_counts("trackml_score"), strict=True))
    np.testing.assert_allclose((first["trackml_score"]["lo"], first["trackml_score"]["hi"]), event_bootstrap(num, den))
    minus = f"dm/minus:{directories[0]}"
    assert minus in second and minus not in first
    np.testing.assert_allclose(second[minus]["value"], second["dm"]["value"] - first["dm"]["value"])


def toy_counts(metric):
    """(numerator, denominator) of dbscan in toy events 1 to 3, computed without the command."""
    for event_id in (1, 2, 3):
        _, truth = build_event(toy_frames(event_id), DataSelection(), event_id)
        labels = expected_tracks(event_id)[toy_frames(event_id)[0]["volume_id"] != 13]
        yield evaluate_event(labels, truth).counts[metric]


def test_an_undefined_metric_is_null_and_a_dash(command, events, tmp_path):
    for event_id in (1, 2, 3):
        hit_id = toy_frames(event_id)[0]["hit_id"]
        frame = pd.DataFrame({"hit_id": hit_id, "track_id": -1})
        frame.to_csv(tmp_path / f"event{event_id:09d}-tracks.csv", index=False)
    code, out, _ = command("evaluate", "--truth", events, "--tracks", tmp_path, "--json")
    metrics = json.loads(out)["tracks"][str(tmp_path)]
    assert code == 0
    assert (metrics["dm"]["value"], metrics["fake_rate"]["value"], metrics["fake_rate"]["lo"]) == (0.0, None, None)
    out = command("evaluate", "--truth", events, "--tracks", tmp_path)[1]
    assert re.search(r"^Fake rate \(purity\) +-$", out, re.MULTILINE)


def test_evaluate_needs_the_same_events(refuse, command, events, tracks, tmp_path):
    truth = ("--truth", events)
    (tracks / "event000000002-tracks.csv").unlink()
    message = refuse("evaluate", *truth, "--tracks", tracks)
    assert "no tracks of 1 of 3 events (first event000000002-tracks.csv)" in message and "--partial" in message
    code, out, _ = command("evaluate", *truth, "--tracks", tracks, "--partial", "--json")
    assert (code, json.loads(out)["n_events"]) == (0, 2)
    shutil.copy(tracks / "event000000001-tracks.csv", tracks / "event000000002-tracks.csv")
    shutil.copy(tracks / "event000000001-tracks.csv", tracks / "event000000077-tracks.csv")
    assert "tracks of 1 events without truth (first event 77)" in refuse("evaluate", *truth, "--tracks", tracks)
    assert "no such directory" in refuse("evaluate", *truth, "--tracks", tmp_path / "none")
    assert "no tracks files" in refuse("evaluate", *truth, "--tracks", events)
    assert "given twice" in refuse("evaluate", *truth, "--tracks", tracks, tracks)
    assert "no events" in refuse("evaluate", "--truth", tracks, "--tracks", tracks)
    assert "selection.pt_operator: value '=>'" in refuse("evaluate", *truth, "--tracks", tracks, "--pt-operator", "=>")


def test_partial_without_a_common_event(refuse, events, tracks, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (tracks / "event000000003-tracks.csv").rename(other / "event000000003-tracks.csv")
    message = refuse("evaluate", "--truth", events, "--tracks", tracks, other, "--partial")
    assert "no event that all tracks directories have" in message


def test_evaluate_needs_truth(refuse, tmp_path, command):
    write_toy_event(tmp_path / "in", 1, parts=("hits",))
    assert command("reconstruct", "dbscan", tmp_path / "in", "--out", tmp_path / "out")[0] == 0
    message = refuse("evaluate", "--truth", tmp_path / "in", "--tracks", tmp_path / "out")
    assert "no particles file" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("track_id", "label"), "no column track_id, expected columns hit_id and track_id"),
        (lambda text: text.replace("\n1,", "\n2,", 1), "1 duplicate hit_id (first 2), expected unique"),
        (lambda text: text.replace("\n1,", "\n99999,", 1), "1 hit_id that the event does not have (first 99999)"),
        (lambda text: re.sub(r"\n1,-?\d+", "", text, count=1), "no row for 1 hits (first hit_id 1)"),
        (lambda text: re.sub(r"\n1,-?\d+", "\n1,-3", text, count=1), "track_id -3 at hit_id 1"),
        (lambda text: re.sub(r"\n1,-?\d+", "\n1,0.5", text, count=1), "column track_id is float64, expected integers"),
        (lambda text: re.sub(r"\n1,-?\d+", "\n1,", text, count=1), "column track_id is float64, expected integers"),
        (lambda text: "", "cannot be read (No columns to parse from file)"),
        (lambda text: text.replace("\n1,", "\n1,2,3,", 1), "more values than column names"),
    ],
)
def test_evaluate_refuses_a_wrong_tracks_file(refuse, events, tracks, change, message):
    path = tracks / "event000000001-tracks.csv"
    path.write_text(change(path.read_text()))
    refusal = refuse("evaluate", "--truth", events, "--tracks", tracks)
    assert refusal.startswith(f"{path}: ")
    assert message in refusal


# evaluate: track parameters


def documented_writer():
    """The function ``write_fitted`` of docs/adding-a-tracker.md."""
    scope = {}
    exec(example_block(ROOT / "docs/adding-a-tracker.md", "fitted"), scope)
    return scope["write_fitted"]


@pytest.fixture(scope="module")
def fitted(events, tmp_path_factory):
    """Perfect labels of the toy events, their pixel hits alone, and true parameters with known noise."""
    folder, write = tmp_path_factory.mktemp("fitted"), documented_writer()
    for event_id in (1, 2, 3):
        hits, truth = build_event(toy_frames(event_id), DataSelection(), event_id)
        ids, found = np.unique(truth.particle_id, return_inverse=True)
        labels = np.where(truth.particle_id > 0, found - (ids[0] == 0), -1)
        particles = truth.particles.set_index("particle_id", drop=False).loc[ids[ids > 0]]
        sigma = np.array([0.02, 0.05, 0.001, 0.0005, 0.01])
        noise = np.random.default_rng(event_id).normal(0, sigma, (len(particles), 5))
        covariance = np.tile(np.diag(sigma**2), (len(particles), 1, 1))
        write(folder, event_id, hits.hit_id, labels, true_perigee(particles) + noise, covariance)
    return folder


@pytest.fixture
def fitted_copy(fitted, tmp_path):
    return Path(shutil.copytree(fitted, tmp_path / "fitted"))


def evaluated(command, events, *options):
    code, out, err = command("--quiet", "evaluate", "--truth", events, "--tracks", *options)
    assert (code, err) == (0, "")
    return out


def test_evaluate_scores_track_parameters_of_any_origin(command, events, fitted, tracks):
    result = json.loads(evaluated(command, events, fitted, tracks, "--json"))
    assert list(result["track_parameters"]) == [str(fitted)]
    metrics = result["tracks"][str(fitted)]
    assert set(FITTED_METRICS) <= metrics.keys()
    assert not set(FITTED_METRICS) & result["tracks"][str(tracks)].keys()
    results = []
    for event_id in (1, 2, 3):
        hits, truth = build_event(toy_frames(event_id), DataSelection(), event_id)
        table = pd.read_csv(fitted / f"event{event_id:09d}-tracks.csv").set_index("hit_id")["track_id"]
        frame = pd.read_csv(fitted / f"event{event_id:09d}-parameters.csv")
        labels, fits = table.loc[hits.hit_id].to_numpy(), TrackParameters.from_frame(frame)
        results.append(evaluate_event(labels, truth, parameters=fits))
    for metric in FITTED_METRICS:
        num, den = (sum(values) for values in zip(*(one.counts[metric] for one in results), strict=True))
        assert (metrics[metric]["num"], metrics[metric]["den"]) == (num, den)
    residuals = pd.concat([one.residuals for one in results])
    numbers = result["track_parameters"][str(fitted)]
    assert numbers["prompt"].keys() == set(PARAMETERS)
    for name, statistics in numbers["prompt"].items():
        assert statistics.keys() == STATISTICS.keys()
        width = half_width(residuals[f"pull_{name}"].to_numpy())[0]
        assert statistics["pull_width"]["value"] == pytest.approx(width, rel=1e-3)  # files have fewer digits
        assert width == pytest.approx(1.0, abs=0.35)
    resolution = numbers["prompt"]["d0"]["resolution"]
    assert (resolution["unit"], resolution["n"]) == ("µm", len(residuals))
    assert resolution["value"] == pytest.approx(20, rel=0.35)
    assert numbers["secondary"]["d0"]["bias"] == {"unit": "µm", "n": 0, "value": None, "lo": None, "hi": None}


def test_table_has_rows_of_track_parameters_where_there_are_any(command, events, fitted, tracks):
    without, both = evaluated(command, events, tracks), evaluated(command, events, tracks, fitted)
    assert "resolution" not in without and "fitted pT" not in without
    lines = both.splitlines()
    for title in ("Fake rate (all candidates, fitted pT)", "d0 resolution [um]", "q_over_pt pull width"):
        (line,) = [line for line in lines if line.startswith(f"{title}  ")]
        assert re.fullmatch(r" +- +[\d.]+ \[[\d.]+, [\d.]+\]", line.removeprefix(title)), line
    assert lines[-1].startswith("resolution, pull width: half of the central 68.27 %")
    assert both.isascii()


def test_written_parameters_of_a_tracker_are_scored(command, fitter, events, tmp_path):
    assert command("reconstruct", "dbscan", events, "--out", tmp_path)[0] == 0
    # The strip hits are in the tracks, but are not scored: candidates may have no hit left.
    code, out, err = command("--quiet", "evaluate", "--truth", events, "--tracks", tmp_path, "--json")
    assert code == 0 and "tracks hold hits that are not scored" in err
    result = json.loads(out)
    assert result["tracks"][str(tmp_path)]["n_candidates_pt"]["num"] > 0
    assert list(result["track_parameters"]) == [str(tmp_path)]


def test_failed_fits_and_unknown_errors(command, events, fitted_copy):
    for event_id in (1, 2, 3):
        path = fitted_copy / f"event{event_id:09d}-parameters.csv"
        frame = pd.read_csv(path)
        covariance = [name for name in frame if name.startswith("cov_")]
        frame[covariance] = 0.0
        frame.loc[0, [*PARAMETERS, *covariance]] = np.nan
        frame.to_csv(path, index=False)
    result = json.loads(evaluated(command, events, fitted_copy, "--json"))
    prompt = result["track_parameters"][str(fitted_copy)]["prompt"]["z0"]
    assert prompt["resolution"]["value"] == pytest.approx(50, rel=0.35)
    assert (prompt["pull_width"]["n"], prompt["pull_width"]["value"]) == (0, None)
    assert result["tracks"][str(fitted_copy)]["vertex_fake_rate"]["den"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[:-1], "rows, but hits of"),
        (lambda frame: frame.iloc[1:], "track_id is not consecutive: 1 instead of 0 in event 2"),
        (lambda frame: pd.concat([frame, frame.tail(1).assign(track_id=len(frame))]), "rows, but hits of"),
        (lambda frame: frame.iloc[:0], "0 rows, but hits of"),
        (lambda frame: frame.drop(columns="cov_d0_z0"), "no column cov_d0_z0, expected columns event_id, track_id, d0"),
        (lambda frame: frame.assign(q_over_pt=np.inf), "q_over_pt is inf for track_id 0 of event 2, expected finite"),
        (lambda frame: frame.assign(cov_z0_z0=np.nan), "cov_z0_z0 is nan for track_id 0 of event 2, expected finite"),
        (lambda frame: frame.assign(theta=np.degrees(frame["theta"])), "expected between 0 and pi [rad]"),
        (lambda frame: frame.assign(d0="left"), "column d0 is "),
        (lambda frame: frame.assign(event_id=1), "rows of event 1, expected event_id 2 only"),
        (lambda frame: None, "no such file, but other events have theirs, expected one for each event"),
    ],
)
def test_evaluate_refuses_wrong_parameters(refuse, events, fitted_copy, change, message):
    path = fitted_copy / "event000000002-parameters.csv"
    frame = change(pd.read_csv(path))
    path.unlink() if frame is None else frame.to_csv(path, index=False)
    refusal = refuse("evaluate", "--truth", events, "--tracks", fitted_copy)
    assert refusal.startswith(f"{path}: ")
    assert message in refusal


# display


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("html", b"<")])
def test_display_with_tracks(command, events, tracks, tmp_path, suffix, start):
    out = tmp_path / f"event.{suffix}"
    file = tracks / "event000000001-tracks.csv"
    code, stdout, err = command("display", events / "event000000001", "--tracks", file, "--out", out)
    assert (code, stdout, err) == (0, "", f"trackbench: event 1 is drawn in {out}\n")
    assert out.read_bytes().startswith(start)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dbscan", out.name]


def test_display_draws_truth_only_if_there_is_any(command, tmp_path):
    sizes = []
    for parts in (("hits",), ("hits", "particles", "truth")):
        prefix = write_toy_event(tmp_path / f"in{len(parts)}", 1, parts=parts)
        assert command("display", prefix, "--out", tmp_path / "event.png")[0] == 0
        sizes.append((tmp_path / "event.png").stat().st_size)
    assert sizes[0] < sizes[1]


def test_display_refuses(refuse, events, tracks, tmp_path):
    event = events / "event000000001"
    assert "file type '.svg', expected .html, .png, .pdf" in refuse("display", event, "--out", tmp_path / "a.svg")
    assert "3 events, expected one event" in refuse("display", events, "--out", tmp_path / "a.png")
    file = tracks / "event000000002-tracks.csv"
    message = refuse("display", event, "--tracks", file, "--out", tmp_path / "a.png")
    assert message.startswith(f"{file}: ")
    assert "cannot be read" in refuse("display", event, "--tracks", tmp_path / "no.csv", "--out", tmp_path / "a.png")
    assert not list(tmp_path.glob("a.*"))


# simulate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--events", "0"], "--events: value 0, expected at least 1"),
        (["--workers", "0"], "--workers: value 0, expected at least 1"),
        (["--first-event", "-1"], "--first-event: value -1, expected at least 0"),
        (["--pileup", "-1"], "simulation.pileup: value -1.0"),
        (["--pileup", "nan"], "simulation.pileup: value nan"),
        (["--hit-efficiency", "1.5"], "simulation.hit_efficiency: value 1.5"),
        (["--field", "0"], "simulation.field: value 0.0, expected a field [T]"),
        (["--misalignment", "2"], "simulation.misalignment: value 2.0, expected a length [mm] in 0..1"),
        (["--hard-process", "zprime"], "simulation.hard_process: value 'zprime', expected one of ttbar"),
        (["--hard-process", "none"], "hard_process 'none' with pileup 0 leaves nothing to simulate"),
    ],
)
def test_simulate_refuses(refuse, tmp_path, options, message):
    out = tmp_path / "out"
    assert message in refuse("simulate", "--events", "1", "--pileup", "0", "--out", out, *options)
    assert not out.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"event_ids": "all"}'])
def test_simulate_beside_a_broken_manifest(refuse, tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    message = refuse("simulate", "--events", "1", "--pileup", "0", "--out", tmp_path)
    assert "manifest.json: cannot be read" in message and "choose another --out" in message


@pytest.mark.parametrize("options", [["--first-event", "3"], ["--first-event", "2", "--format", "parquet"]])
def test_simulate_beside_events_of_an_interrupted_call(refuse, tmp_path, options):
    prefix = write_toy_event(tmp_path, 2, parts=("hits",))
    message = refuse("simulate", "--events", "1", "--pileup", "0", "--out", tmp_path, *options)
    assert message.startswith(f"{prefix}-hits.csv: belongs to no manifest")
    assert "choose another --out" in message


def test_from_simulation_to_display(command, refuse, tmp_path):
    """The whole chain on soft events (mu = 0, one ttbar collision each)."""
    pytest.importorskip("acts")
    pytest.importorskip("pythia8mc")
    sample, options = tmp_path / "events", ("--pileup", "0", "--out", tmp_path / "events", "--seed", "4")
    code, out, err = command("simulate", "--events", "1", *options)
    assert (code, out) == (0, "")
    assert "simulated event 1 (1 of 1)" in err and f"1 events are in {sample}" in err
    first = (sample / "event000000001-hits.csv").read_bytes()
    assert command("simulate", "--events", "2", *options)[0] == 0
    assert (sample / "event000000001-hits.csv").read_bytes() == first
    assert command("simulate", "--events", "1", "--first-event", "8", *options)[0] == 0
    assert json.loads((sample / "manifest.json").read_text())["event_ids"] == [1, 2, 8]
    message = refuse("simulate", "--events", "1", *options, "--sigma-z", "55")
    assert "the events there have sigma_z = 5.5, expected 55.0 as asked for now" in message
    manifest = json.loads((sample / "manifest.json").read_text())
    del manifest["field"]  # as events from before this setting have it
    (sample / "manifest.json").write_text(json.dumps(manifest))
    message = refuse("simulate", "--events", "1", *options, "--field", "1.98")
    assert "the events there have field = 2.0, expected 1.98 as asked for now" in message
    for tracker in ("dbscan", "helix_hash"):
        assert command("reconstruct", tracker, sample, "--pixel-only", "--out", tmp_path / tracker)[0] == 0
    directories = (str(tmp_path / "dbscan"), str(tmp_path / "helix_hash"))
    code, out, _ = command("evaluate", "--truth", sample, "--tracks", *directories, "--json")
    assert code == 0
    result = json.loads(out)
    dm = [result["tracks"][directory]["dm"]["value"] for directory in directories]
    assert result["n_events"] == 3
    assert dm[0] > 0.4 and dm[1] > 0.9
    tracks = tmp_path / "helix_hash/event000000008-tracks.csv"
    page = tmp_path / "event.html"
    assert command("display", sample / "event000000008", "--tracks", tracks, "--out", page)[0] == 0
    assert page.stat().st_size > 10_000


# The example in docs/adding-a-tracker.md


@pytest.fixture(scope="module")
def checkout_with_example(tmp_path_factory):
    """A copy of the package and its contract test, with the documented example dropped in."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "src/trackbench", root / "src/trackbench", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    for name in ("toys.py", "module_positions.py", "toy_weights.py", "track_checks.py", "test_tracker_contract.py"):
        shutil.copy(ROOT / "tests" / name, root / "tests")
    shutil.copy(ROOT / "pyproject.toml", root)
    text = example_block(ROOT / "docs/adding-a-tracker.md", "roads")
    (root / "src/trackbench/trackers/roads.py").write_text(text, encoding="utf-8")
    return root


def run_in(root, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_documented_example_keeps_the_contract(checkout_with_example):
    done = run_in(checkout_with_example, "-m", "pytest", "-q", "tests/test_tracker_contract.py", "-k", "roads")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^(\d\d) passed", done.stdout, re.MULTILINE)
    assert "skipped" not in done.stdout


def test_documented_example_is_listed_and_runs(checkout_with_example, events, tmp_path):
    done = run_in(checkout_with_example, "-m", "trackbench.cli.main", "trackers")
    assert "roads: Hits in one cell of azimuth" in done.stdout
    assert "dbscan: " in done.stdout
    arguments = ("reconstruct", "roads", events / "event000000001", "--out", tmp_path)
    done = run_in(checkout_with_example, "-m", "trackbench.cli.main", *arguments)
    assert done.returncode == 0, done.stderr
    assert (pd.read_csv(tmp_path / "event000000001-tracks.csv")["track_id"] >= 0).sum() > 20


def test_documented_example_is_lint_clean(checkout_with_example):
    done = run_in(checkout_with_example, "-m", "ruff", "check", "--no-cache", "src/trackbench/trackers/roads.py")
    assert done.returncode == 0, done.stdout
    done = run_in(checkout_with_example, "-m", "ruff", "format", "--check", "src/trackbench/trackers/roads.py")
    assert done.returncode == 0, done.stdout
