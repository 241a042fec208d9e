"""After ``compile_kernels`` no tracker, clean-up or reader compiles anything more."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trackbench.data.hits import Hits
from trackbench.fitting.cleanup import clean_up
from trackbench.geometry.detector import PIXEL_VOLUMES
from trackbench.kernels import made_up_event

ROOT = Path(__file__).resolve().parents[1]

# A process that prints every kernel that is compiled, not loaded, with its types.
LISTEN = """
import sys
from numba.core import event

class Listener(event.Listener):
    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("trackbench"):
            print("compiled", function.__module__, function.__name__, event.data["args"])

    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
sys.path[:0] = sys.argv[1:3]
"""

# Other events than those of ``compile_kernels``, read from files, and every setting that changes which kernels run.
USE = """
import pathlib, tempfile
import numpy as np
from test_cleanup import crowd
from test_helix_finder_full import hits_of, secondaries
from toy_files import write_toy_event
from toys import module_event, toy_event
from trackbench.data.reader import read_event
from trackbench.fitting.cleanup import CleanUp, clean_up, fit_candidates
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers.latent_clustering import cluster_points

with tempfile.TemporaryDirectory() as folder:
    write_toy_event(pathlib.Path(folder), 1)
    read_event(pathlib.Path(folder) / "event000000001", ("hits", "particles", "truth"))
pixel, full = module_event(60, 200)[0], hits_of(*secondaries(6, seed=3)[1])
for settings in ({}, {"max_d0": 0}, {"max_z0": 180, "threads": 2, "max_chi2_short": 30}):
    for hits in (pixel, full, crowd()[0]):
        build_tracker("helix_finder", settings).reconstruct_tracks(hits)
for hits, labels in (crowd(), (full, np.arange(len(full)) // 6)):
    cut = np.where(np.arange(labels.size) % 3 > 0, labels, -1)
    for given in (labels, cut.astype(np.int32)):
        for steps in ("", "drop_outliers", "split", "join", "pick_up", "compete", "drop_outliers join compete"):
            clean_up(hits, given, CleanUp(**dict.fromkeys(steps.split(), False), max_join_chi2=20, max_hit_chi2=9))
    fit_candidates(hits, labels)
margins = {"barrel_margin_u": 2, "barrel_margin_w": 2, "endcap_margin": 1}
radii = {"dbscan": {"barrel_eps": 2}, "density_peaks": {"barrel_delta": 3}}
for name, settings in {"iterative_window": margins, **radii}.items():
    for chosen in ({}, settings):
        tracker = build_tracker(name, chosen)
        for hits in (pixel, toy_event()[0], full):
            tracker.reconstruct(hits)
            tracker.clusters(hits)
build_tracker("helix_hash").reconstruct(pixel)
for dtype in (np.float32, np.float64):
    points = np.random.default_rng(1).normal(size=(40, 8)).astype(dtype)
    for settings in ({}, {"max_size": 4, "similarity": 0.5}, {"min_cluster_size": 2, "centre": 0.5}):
        cluster_points(points, "greedy_cosine", **settings)
"""


def run(code, **environment):
    """Run code that uses the library in a new process; return what it compiled, one line each."""
    arguments = [sys.executable, "-W", "error", "-c", LISTEN + code, str(ROOT / "src"), str(ROOT / "tests")]
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("compiled")]


@pytest.fixture(scope="module")
def compiled():
    """Compile in a process of its own, as `make install` does: from nothing a minute or two, else a few seconds."""
    command = [sys.executable, "-m", "trackbench.cli.main", "compile"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "src", check=True)
    assert done.stdout.startswith("kernels are compiled, ")
    return done.stderr


@pytest.mark.slow
def test_nothing_is_compiled_later(compiled):
    assert run(USE) == []


def test_a_call_with_other_types_is_seen(tmp_path):
    code = "import numpy as np; from trackbench.trackers.layers.latent_kernels import _dot\n"
    lines = run(
        code + "_dot(np.ones((2, 3)), 0, 1); _dot(np.ones((2, 3), np.complex64), 0, 1)", NUMBA_CACHE_DIR=str(tmp_path)
    )
    start = "compiled trackbench.trackers.layers.latent_kernels _dot (Array"
    assert [line.partition(", 2")[0] for line in lines] == [f"{start}(float64", f"{start}(complex64"]


@pytest.mark.slow
def test_each_part_is_named_with_its_time(compiled):
    for part in ("helix_finder", "helix_finder, full detector", "clean-up", "surface clusterers", "csv"):
        assert f"kernels of {part}: " in compiled


@pytest.mark.parametrize("works", [True, False])
def test_make_install_goes_on_without_kernels(tmp_path, works):
    # The interpreter of this environment is a script that installs nothing and says what it was called for.
    python, venv = tmp_path / "python", tmp_path / "venv"
    refuse = "" if works else 'case "$*" in *compile) echo "no compiler" >&2; exit 1;; esac\n'
    make_venv = f'case "$*" in "-m venv"*) mkdir -p {venv}/bin; cp "$0" {venv}/bin/python;; esac\n'
    python.write_text(f'#!/bin/sh\necho "called: $*"\n{make_venv}{refuse}', encoding="utf-8")
    python.chmod(0o755)
    command = ["make", "install", f"PYTHON={python}", f"VENV={venv}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and (venv / ".installed").is_file()
    assert "called: -m trackbench.cli.main compile" in done.stdout and "a minute or two" in done.stdout
    assert ("could not be compiled" in done.stdout) == (not works) == ("no compiler" in done.stderr)


def test_the_made_up_event_is_one_of_tracks():
    hits, labels = made_up_event()
    assert isinstance(hits, Hits) and labels.shape == (len(hits),)
    pixel = np.isin(hits.volume_id, PIXEL_VOLUMES)
    assert 300 < pixel.sum() < len(hits) - 300
    assert len(np.unique(hits.layer_id + 100 * hits.volume_id)) == 48
    again, _ = made_up_event()
    assert np.array_equal(hits.xyz, again.xyz)
    # The hits of a track fit together: clean-up keeps nine of ten.
    kept = clean_up(hits.take(pixel), labels[pixel])
    sizes = np.bincount(labels[pixel])
    assert kept.labels.max() + 1 > 0.9 * (sizes >= 3).sum()
