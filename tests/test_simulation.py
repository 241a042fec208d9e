"""The whole simulation on small events: content, determinism, manifest, errors."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("acts", reason="the extra 'simulate' is not installed")
pytest.importorskip("pythia8mc", reason="the extra 'simulate' is not installed")

from trackbench.data.particle_id import generation_number, vertex_number
from trackbench.data.weights import hit_weights
from trackbench.errors import ConfigError, InputError
from trackbench.geometry.acts_detector import DETECTOR_COLUMNS, build_detector, build_detectors
from trackbench.geometry.detector import is_known_module
from trackbench.simulation import generator
from trackbench.simulation.config import SimulationConfig
from trackbench.simulation.fatras import propagate
from trackbench.simulation.generator import Generator, prepare_generator
from trackbench.simulation.simulate import Simulator, simulate, simulate_parallel

SAMPLE = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "trackml-sample"
CONFIG = SimulationConfig(pileup=2, cells=True, seed=3)
KNOWN_EVENT, KNOWN_SUMS = (
    "58109e74ea01dd19",
    (503779.203, 466270.01, 1983525.65),
)  # event 5 of CONFIG: hash of integers, sums of |x|, |y|, |z| [mm]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Initialisation files of the generator: 6 CPU s, made once."""
    folder = tmp_path_factory.mktemp("generator")
    prepare_generator(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def simulator(cache):
    return Simulator(CONFIG, cache)


@pytest.fixture(scope="module")
def event(simulator):
    return simulator.event(5)


def digest(folder):
    """Hash of every event file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("event*"))}


def test_damaged_initialisation_is_refused(cache, tmp_path):
    """Pythia itself starts with a file that lacks its end, or has other digits, and draws other events."""
    (path,) = shutil.copytree(cache, tmp_path / "copy").glob("*softqcd.mpi")
    data = path.read_bytes()
    cut = [data[:size] for size in (0, 10, len(data) // 2, len(data) - 300, len(data) - 20, len(data) - 1)]
    changed = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (200, len(data) // 2, len(data) - 3)]
    for damaged in cut + changed:
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{path.name}: cut short or damaged, .*; remove it and run again"):
            Generator(CONFIG, path.parent)
    path.write_bytes(b"nothing }\n")  # as of an older version, which wrote no checksum
    with pytest.raises(InputError, match=rf"{path.name}: Pythia does not start with it, .*; remove it and run again"):
        Generator(CONFIG, path.parent)
    path.write_bytes(data[: data.index(b"! crc32")])
    Generator(CONFIG, path.parent)


@pytest.mark.parametrize("end", [b"", b"1.5 2.5", b"1.5 }\n"])
def test_an_initialisation_that_pythia_wrote_in_part(tmp_path, monkeypatch, end):
    """A full disk stops Pythia's own writing without an exception."""

    def start(process, reuse, path, whole=generator._start):
        return path.write_bytes(end) if reuse == generator.WRITE else whole(process, reuse, path)

    monkeypatch.setattr(generator, "_start", start)
    with pytest.raises(InputError, match=r"ttbar\.mpi: Pythia wrote only a part of it, .*; make room and run again"):
        prepare_generator(CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


def test_detector_has_every_module_and_finds_it_by_both_names():
    detector = build_detector()
    table = detector.table
    assert list(table.columns) == DETECTOR_COLUMNS
    ids = [table[name].to_numpy() for name in ("volume_id", "layer_id", "module_id")]
    assert len(table) == 18728
    assert is_known_module(*ids).all()
    np.testing.assert_array_equal(detector.rows(detector.geometry_id), np.arange(18728))
    np.testing.assert_array_equal(detector.geometry_ids(*ids), detector.geometry_id)
    assert detector.rows(np.array([12345], dtype=np.uint64))[0] == -1
    assert detector.geometry_ids(np.array([8]), np.array([2]), np.array([225]))[0] == 0
    # The bits of an ACTS identifier hold volume and layer.
    np.testing.assert_array_equal(detector.geometry_id >> np.uint64(56), ids[0])
    np.testing.assert_array_equal((detector.geometry_id >> np.uint64(36)) & np.uint64(0xFFF), ids[1])


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.exists(), reason="no real TrackML sample beside the repository")
def test_all_modules_agree_with_the_published_table():
    real = pd.read_csv(SAMPLE / "detectors.csv.gz").sort_values(["volume_id", "layer_id", "module_id"])
    built = build_detectors()
    ids = ["volume_id", "layer_id", "module_id"]
    np.testing.assert_array_equal(built[ids].to_numpy(), real[ids].to_numpy())
    distance = np.linalg.norm(built[["cx", "cy", "cz"]].to_numpy() - real[["cx", "cy", "cz"]].to_numpy(), axis=1)
    assert distance.max() < 0.010
    rest = DETECTOR_COLUMNS[6:]
    np.testing.assert_allclose(built[rest].to_numpy(), real[rest].to_numpy(), atol=1e-6)


def test_tables_belong_together(event):
    hits, truth, particles, cells = event.hits, event.truth, event.particles, event.cells
    n = len(hits)
    assert 500 < n < 20_000
    for table in (hits, truth):
        np.testing.assert_array_equal(table["hit_id"], np.arange(1, n + 1))
    key = hits["volume_id"] * 10**6 + hits["layer_id"] * 10**4 + hits["module_id"]
    assert key.is_monotonic_increasing
    assert is_known_module(hits["volume_id"], hits["layer_id"], hits["module_id"]).all()
    assert particles["particle_id"].is_monotonic_increasing
    assert particles["particle_id"].is_unique
    counts = truth.loc[truth["particle_id"] > 0, "particle_id"].value_counts()
    expected = counts.reindex(particles["particle_id"]).fillna(0).astype(int).to_numpy()
    np.testing.assert_array_equal(particles["nhits"], expected)
    assert counts.index.isin(particles["particle_id"]).all()
    np.testing.assert_array_equal(np.unique(cells["hit_id"]), hits["hit_id"])
    numbers = [*hits.columns, *truth.columns[2:]]
    assert np.isfinite(hits.join(truth.drop(columns=["hit_id", "particle_id"]))[numbers]).all(axis=None)


def test_hit_numbers_do_not_tell_noise_from_true_hits(simulator):
    tables = [simulator.event(event_id) for event_id in range(20, 28)]
    rank = []
    for event in tables:
        key = event.hits[["volume_id", "layer_id", "module_id"]].assign(noise=event.truth["particle_id"] == 0)
        group = key.groupby(["volume_id", "layer_id", "module_id"])["noise"]
        place, size = group.cumcount(), group.transform("size")
        mixed = key["noise"] & (group.transform("sum") == 1) & (size > 1)
        rank.append((place / (size - 1).clip(lower=1))[mixed])
    rank = np.concatenate(rank)
    assert len(rank) > 100
    assert rank.mean() == pytest.approx(0.5, abs=0.15)  # 1 if noise came last in its module


def test_pinned_generators_give_the_known_event(event):
    """Guards against another ACTS, Pythia or detector: the counts of one event, within what a CPU may change."""
    assert len(event.particles) == pytest.approx(221, abs=4)
    assert (event.truth["particle_id"] > 0).sum() == pytest.approx(2085, rel=0.02)
    assert len(event.cells) / len(event.hits) == pytest.approx(4.70, rel=0.03)


def test_measured_positions_are_near_the_true_ones(event):
    offset = event.hits[["x", "y", "z"]].to_numpy() - event.truth[["tx", "ty", "tz"]].to_numpy()
    distance = pd.Series(np.linalg.norm(offset, axis=1))
    pixel = event.hits["volume_id"].isin([7, 8, 9])
    assert distance[pixel].median() < 0.02
    assert distance[event.hits["volume_id"].isin([12, 13, 14])].median() < 0.6
    assert distance.max() < 12.0  # long strips are 10.8 mm long; measured at their middle


def test_particles_are_charged_and_in_the_acceptance(event):
    particles = event.particles
    pt = np.hypot(particles["px"], particles["py"])
    primary = generation_number(particles["particle_id"]) == 0
    assert (particles["q"].abs() == 1).all()
    assert pt.min() > 0.1
    assert np.abs(np.arcsinh(particles["pz"] / pt))[primary].max() < 4
    assert (particles.loc[pt < 0.15, "nhits"] == 0).all()
    assert set(vertex_number(particles["particle_id"])) >= {1}
    generation = generation_number(particles["particle_id"])
    assert set(generation) == {0, 1, 2}
    assert (generation == 2).sum() < (generation == 1).sum() < primary.sum()


def test_weights_are_the_phase2_weights(event):
    weight = event.truth["weight"].to_numpy()
    assert weight.sum() == pytest.approx(1.0, abs=1e-12)
    secondary = (generation_number(event.truth["particle_id"]) > 0) | (event.truth["particle_id"] == 0)
    assert (weight[secondary] == 0).all()
    np.testing.assert_allclose(weight, hit_weights(event.truth, event.particles, phase2=True), atol=1e-12)


def test_event_does_not_depend_on_the_events_before_it(simulator, cache, event):
    simulator.event(8)
    for again in (simulator.event(5), Simulator(CONFIG, cache).event(5)):
        for name, table in event.parts().items():
            pd.testing.assert_frame_equal(table, again.parts()[name], check_exact=True)


def test_files_are_the_same_bytes_whatever_the_sharding(cache, tmp_path):
    seen = []
    simulate(CONFIG, [2, 3], tmp_path / "all", cache_dir=cache, progress=lambda *step: seen.append(step))
    simulate(CONFIG, [3], tmp_path / "a", cache_dir=cache)
    simulate_parallel(CONFIG, [9, 2], tmp_path / "b", cache_dir=cache, workers=2)
    assert seen == [(2, 1, 2), (3, 2, 2)]
    together = digest(tmp_path / "all")
    apart = {**digest(tmp_path / "a"), **digest(tmp_path / "b")}
    assert len(together) == 8
    assert {name: apart[name] for name in together} == together
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["event_ids"] == [9, 2]


def test_manifest_records_every_setting(cache, tmp_path):
    config = SimulationConfig(pileup=0, sigma_z=55.0, hit_efficiency=0.9, format="csv", seed=11)
    simulate(config, [4], tmp_path, cache_dir=cache)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["source"] == "simulate"
    assert manifest["note"] == "simulated, TrackML-like"
    assert manifest["event_ids"] == [4]
    assert "drawn_as" not in manifest
    assert "2 T" in manifest["generator"]
    settings = {"pileup": 0, "hard_process": "ttbar", "sigma_z": 55.0, "hit_efficiency": 0.9, "noise_fraction": 0.15}
    settings |= {"field": 2.0, "misalignment": 0.0, "cells": False, "format": "csv", "seed": 11}
    assert {name: manifest[name] for name in settings} == settings
    assert {"trackbench", "pyacts", "pythia8mc", "numpy"} <= set(manifest["versions"])
    particles = pd.read_csv(tmp_path / "event000000004-particles.csv", dtype={"particle_id": "int64"})
    assert set(vertex_number(particles["particle_id"])) == {1}
    assert not (tmp_path / "event000000004-cells.csv").exists()


def test_hit_efficiency_and_noise_act_on_the_hits_only(cache, event):
    full = Simulator(replace(CONFIG, hit_efficiency=1.0, noise_fraction=0.0), cache).event(5)
    assert (full.truth["particle_id"] > 0).all()
    half = Simulator(replace(CONFIG, hit_efficiency=0.5, noise_fraction=0.0), cache).event(5)
    assert len(half.hits) / len(full.hits) == pytest.approx(0.5, abs=0.05)
    true_hits = (event.truth["particle_id"] > 0).sum()
    assert true_hits / len(full.hits) == pytest.approx(0.98, abs=0.01)
    assert 1 - true_hits / len(event.hits) == pytest.approx(0.15, abs=0.03)
    columns = ["particle_id", "vx", "vy", "vz", "px", "py", "pz", "q"]
    for other in (full, half):
        pd.testing.assert_frame_equal(other.particles[columns], event.particles[columns])


def test_default_field_and_alignment_leave_the_known_hits(event):
    """The modules and particles of every hit of one event, as they were before field and misalignment could be set."""
    names = ["volume_id", "layer_id", "module_id"]
    numbers = np.column_stack([event.hits[names].to_numpy(np.int64), event.truth["particle_id"].to_numpy(np.int64)])
    assert hashlib.sha256(numbers.tobytes()).hexdigest()[:16] == KNOWN_EVENT
    assert event.hits[["x", "y", "z"]].abs().sum().to_numpy() == pytest.approx(KNOWN_SUMS, rel=1e-6)


@pytest.mark.parametrize("field", [1.0, 1.98, 2.0])
def test_particles_bend_as_the_field_says(field):
    """Muons of 2 GeV from the origin at eta = 0: a circle through the origin, sin(turned angle) = r / 2R."""
    n, pt = 1000, 2.0
    phi = np.linspace(0.0, 6.0, n)
    fixed = {"particle_type": 13, "vx": 0.0, "vy": 0.0, "vz": 0.0, "vt": 0.0, "pz": 0.0, "m": 0.10566, "q": -1}
    table = pd.DataFrame({**fixed, "px": pt * np.cos(phi), "py": pt * np.sin(phi)})
    hits = propagate(table, 1, 11, field)
    x, y, _ = hits.position.T
    turned = (np.arctan2(y, x) - phi[hits.particle] + np.pi) % (2 * np.pi) - np.pi
    r = np.hypot(x, y)
    outer = r > 300  # scattering there is some per cent of the bending, at random
    assert outer.sum() > 3 * n
    radius = np.median(r[outer] / (2 * np.sin(turned[outer])))  # [mm], > 0: negative particles turn left
    assert radius == pytest.approx(pt / (0.299792458e-3 * field), rel=0.004)


def test_misalignment_displaces_whole_modules_the_same_in_every_event(cache, simulator, event):
    moved = Simulator(replace(CONFIG, misalignment=0.02), cache)
    detector = build_detector()
    seen = {}
    for event_id, before in ((5, event), (8, simulator.event(8))):
        after = moved.event(event_id)
        pd.testing.assert_frame_equal(after.truth, before.truth)
        pd.testing.assert_frame_equal(after.cells, before.cells)
        ids = [before.hits[name].to_numpy() for name in ("volume_id", "layer_id", "module_id")]
        row = detector.rows(detector.geometry_ids(*ids))
        step = after.hits[["x", "y", "z"]].to_numpy() - before.hits[["x", "y", "z"]].to_numpy()
        local = moved.modules.to_local(row, step, are_points=False)
        assert np.abs(local[:, 2]).max() < 1e-9
        for module, shift in zip(row, local[:, :2], strict=True):
            np.testing.assert_allclose(seen.setdefault(module, shift), shift, atol=1e-9)
    values = np.array(list(seen.values()))
    assert len(values) > 1000
    assert values.std(axis=0) == pytest.approx([0.02, 0.02], rel=0.1)


def test_events_drawn_by_another_number_are_the_same_collisions(cache, simulator, tmp_path):
    simulate(CONFIG, [5], tmp_path / "own", cache_dir=cache)
    simulate(CONFIG, [700], tmp_path / "drawn", cache_dir=cache, drawn_as=[5])
    own, drawn = digest(tmp_path / "own"), digest(tmp_path / "drawn")
    assert {name.replace("000000005", "000000700"): value for name, value in own.items()} == drawn
    assert json.loads((tmp_path / "drawn" / "manifest.json").read_text())["drawn_as"] == [5]
    with pytest.raises(ConfigError, match="drawn_as: 2 numbers, expected one for each of 1 events"):
        simulate(CONFIG, [700], tmp_path / "no", cache_dir=cache, drawn_as=[5, 6])


def test_a_lower_hit_efficiency_loses_further_hits_of_the_same_tracks(cache):
    kept = {}
    for efficiency in (1.0, 0.97, 0.94):
        settings = replace(CONFIG, hit_efficiency=efficiency, noise_fraction=0.0)
        truth = Simulator(settings, cache).event(5).truth
        kept[efficiency] = set(zip(truth["tx"], truth["ty"], truth["tz"], strict=True))
    assert kept[0.94] < kept[0.97] < kept[1.0]


def test_only_pileup_and_an_event_without_collisions(cache):
    simulator = Simulator(replace(CONFIG, hard_process="none", pileup=0.5), cache)
    events = [simulator.event(event_id) for event_id in range(1, 9)]
    empty = [event for event in events if len(event.particles) == 0]
    assert empty
    assert len(empty) < 8
    assert len(empty[0].hits) == len(empty[0].truth) == len(empty[0].cells) == 0
    assert all((vertex_number(event.particles["particle_id"]) > 1).all() for event in events)


def test_vertices_spread_along_the_beam_by_sigma_z(cache):
    generator = Simulator(replace(CONFIG, hard_process="none", pileup=200.0, sigma_z=55.0), cache).generator
    particles = generator.generate(1)
    prompt = particles[np.hypot(particles["vx"], particles["vy"]) < 0.1]
    vertices = prompt.groupby(vertex_number(prompt["particle_id"]))["vz"].median()
    assert vertices.std() == pytest.approx(55.0, rel=0.2)
    assert 150 < vertex_number(particles["particle_id"]).max() < 260
    assert 100 < len(vertices) < 200  # elastic and diffractive collisions leave nothing


@pytest.mark.slow
def test_higgs_decays_to_b_quarks_displace_particles(tmp_path):
    events = Simulator(SimulationConfig(pileup=0, hard_process="tthbb", seed=3), tmp_path)
    particles = pd.concat([events.generator.generate(event_id) for event_id in range(1, 6)])
    assert len(particles) > 100
    displaced = np.hypot(particles["vx"], particles["vy"])
    assert ((displaced > 0.3) & (displaced < 30)).mean() > 0.05


@pytest.mark.parametrize("event_ids", [[], [-1], [1, 1], [1_000_000_000]])
def test_bad_event_ids_are_refused_before_anything_is_made(event_ids, tmp_path):
    with pytest.raises(ConfigError, match=r"simulation events: .*expected at least one, distinct"):
        simulate(CONFIG, event_ids, tmp_path / "out", cache_dir=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
