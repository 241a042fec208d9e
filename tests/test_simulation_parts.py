"""Settings, digitisation, interactions, noise and output of the simulation, without Pythia and ACTS."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trackbench.data.particle_id import generation_number, pack_particle_id
from trackbench.errors import ConfigError, MissingExtraError
from trackbench.geometry.acts_detector import DETECTOR_COLUMNS, Detector
from trackbench.geometry.detector import FIELD_T
from trackbench.simulation import interactions, output
from trackbench.simulation.config import PRESETS, SimulationConfig
from trackbench.simulation.digitisation import Modules, digitise
from trackbench.simulation.fatras import SimulatedHits, no_hits
from trackbench.simulation.misalignment import displace, module_shifts
from trackbench.simulation.noise import LAYER_COUNTS, noise_hits
from trackbench.simulation.output import round_significant, write_event

SAMPLE = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "trackml-sample"
needs_sample = pytest.mark.skipif(not SAMPLE.exists(), reason="no real TrackML sample beside the repository")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pileup", -1.0),
        ("pileup", float("nan")),
        ("pileup", "200"),
        ("pileup", 1501),
        ("sigma_z", -0.1),
        ("hit_efficiency", 0.0),
        ("hit_efficiency", 1.01),
        ("noise_fraction", 1.0),
        ("field", 0.0),
        ("field", -2.0),
        ("field", float("inf")),
        ("misalignment", -0.01),
        ("misalignment", 1.01),
        ("misalignment", None),
        ("hard_process", "zprime"),
        ("format", "root"),
        ("cells", "yes"),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", True),
    ],
)
def test_bad_setting_names_itself_and_what_is_allowed(name, value):
    with pytest.raises(ConfigError, match=rf"simulation\.{name}: value .*, expected "):
        SimulationConfig(**{name: value})


def test_the_default_field_is_the_one_trackers_assume():
    assert SimulationConfig().field == FIELD_T


def test_nothing_to_simulate_is_refused():
    with pytest.raises(ConfigError, match="leaves nothing to simulate; set one of the two"):
        SimulationConfig(pileup=0, hard_process="none")
    assert SimulationConfig(pileup=0).pileup == 0
    assert SimulationConfig(pileup=1, hard_process="none").hard_process == "none"


def test_presets():
    assert {name: preset.pileup for name, preset in PRESETS.items()} == {f"mu{n}": n for n in (0, 5, 20, 50, 200)}


def test_module_shifts_are_normal_and_scale_with_the_width():
    shifts = module_shifts(20_000, 0.02, seed=7)
    assert shifts.shape == (20_000, 2)
    assert shifts.mean(axis=0) == pytest.approx([0.0, 0.0], abs=4 * 0.02 / np.sqrt(20_000))
    assert shifts.std(axis=0) == pytest.approx([0.02, 0.02], rel=0.03)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.03
    np.testing.assert_allclose(module_shifts(20_000, 0.06, seed=7), 3 * shifts, rtol=1e-12)
    assert not np.allclose(module_shifts(20_000, 0.02, seed=8), shifts)
    assert not module_shifts(5, 0.0, seed=7).any()


def test_hits_move_with_their_module_in_its_plane():
    modules = Modules(detector_of([PIXEL, STRIP]))
    shifts = np.array([[0.01, -0.02], [0.3, 0.4]])
    xyz = np.array([[30.0, 1.0, 2.0], [260.0, 6.0, 99.0], [30.0, -1.0, 5.0]])
    moved = displace(modules, np.array([0, 1, 0]), xyz, shifts)
    # The local axes u, v of these modules are the global y, z.
    expected = [[30.0, 1.01, 1.98], [260.0, 6.3, 99.4], [30.0, -0.99, 4.98]]
    np.testing.assert_allclose(moved, expected, atol=1e-12)


def detector_of(rows):
    """A Detector of plain modules: (volume, layer, module, centre, minhu, maxhu, hv, thickness, pitch_u, pitch_v).

    The local axes u, v, w are the global y, z, x.
    """
    table = []
    for volume, layer, module, centre, minhu, maxhu, hv, thickness, pitch_u, pitch_v in rows:
        rotation = (0, 0, 1, 1, 0, 0, 0, 1, 0)
        table.append((volume, layer, module, *centre, *rotation, thickness, minhu, maxhu, hv, pitch_u, pitch_v))
    frame = pd.DataFrame(table, columns=DETECTOR_COLUMNS)
    return Detector(frame, np.arange(len(frame), dtype=np.uint64), None, None)


PIXEL = (8, 2, 1, (30.0, 0.0, 0.0), 8.4, 8.4, 36.0, 0.15, 0.05, 0.05625)
STRIP = (13, 2, 1, (260.0, 5.0, 100.0), 24.0, 24.0, 54.0, 0.25, 0.08, 1.2)
DISC = (7, 2, 1, (0.0, 0.0, -1500.0), 8.4, 8.4, 36.0, 0.15, 0.05, 0.05625)


def naive_cells(row, position, momentum, steps=50_000):
    """Cells of one hit by walking along the segment: {(ch0, ch1): path length [mm]}."""
    (volume, _, _, centre, _, hu, hv, t, pitch_u, pitch_v) = row
    t = t if volume == 8 or volume == 13 else 2 * t
    direction = np.array([momentum[1], momentum[2]]) / abs(momentum[0])
    start = np.array([position[1] - centre[1], position[2] - centre[2]]) - direction * t / 2
    points = start + direction * t * ((np.arange(steps) + 0.5) / steps)[:, None]
    length = t * np.sqrt(1 + (direction**2).sum())
    ch0, ch1 = np.floor((points[:, 0] + hu) / pitch_u), np.floor((points[:, 1] + hv) / pitch_v)
    codes, counts = np.unique((ch0 * 10_000 + ch1).astype(int), return_counts=True)
    return {divmod(code, 10_000): k * length / steps for code, k in zip(codes.tolist(), counts, strict=True)}


@pytest.mark.parametrize("row", [PIXEL, STRIP, DISC])
def test_cells_agree_with_a_walk_along_the_segment(row):
    rng = np.random.default_rng(5)
    n = 20
    centre = np.array(row[3])
    position = centre + np.c_[np.zeros(n), rng.uniform(-5, 5, (n, 2))]
    momentum = np.c_[rng.choice([-1.0, 1.0], n), rng.normal(0, 1.5, (n, 2))]
    clusters = digitise(Modules(detector_of([row])), np.zeros(n, int), position, momentum, rng)
    for i in range(n):
        at = clusters.hit == i
        found = list(zip(clusters.ch0[at].tolist(), clusters.ch1[at].tolist(), strict=True))
        expected = {
            cell: length for cell, length in naive_cells(row, position[i], momentum[i]).items() if length > 1e-4
        }
        assert len(set(found)) == len(found)
        assert set(expected) <= set(found)
        assert len(found) - len(expected) <= 2  # slivers that the walk steps over
        if row is STRIP:
            assert (clusters.value[at] == 1).all()
        else:
            ratio = [
                value / expected[cell]
                for cell, value in zip(found, clusters.value[at], strict=True)
                if cell in expected
            ]
            assert np.mean(ratio) == pytest.approx(1.0, abs=0.15)


def test_perpendicular_hit_gives_the_centre_of_one_cell():
    clusters = digitise(
        Modules(detector_of([PIXEL, STRIP])),
        np.array([0, 1]),
        np.array([[30.0, 0.012, 0.03], [260.0, 5.05, 100.7]]),
        np.array([[2.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
        np.random.default_rng(0),
    )
    assert list(clusters.hit) == [0, 1]
    assert (clusters.ch0[0], clusters.ch1[0]) == (168, 640)  # floor(8.412 / 0.05), floor(36.03 / 0.05625)
    np.testing.assert_allclose(clusters.xyz[0], [30.0, 0.025, 0.028125], atol=1e-9)
    # u = 0.05 -> cell floor(24.05 / 0.08) = 300, centre 0.04; v = 0.7 -> floor(54.7 / 1.2) = 45, centre 0.6
    np.testing.assert_allclose(clusters.xyz[1], [260.0, 5.04, 100.6], atol=1e-9)


def test_cells_stay_on_the_module_and_grazing_hits_are_capped():
    position = np.array([[30.0, 8.39, 35.99], [30.0, -8.39, 0.0]])
    momentum = np.array([[1e-12, 1.0, 1.0], [1.0, -5.0, 0.0]])
    clusters = digitise(Modules(detector_of([PIXEL])), np.zeros(2, int), position, momentum, np.random.default_rng(0))
    assert clusters.ch0.min() >= 0
    assert clusters.ch0.max() == 335
    assert clusters.ch1.max() == 639 + 640
    assert len(clusters.hit) < 2 * (5 / 0.05 + 5 / 0.05625)
    pairs = np.stack([clusters.hit, clusters.ch0, clusters.ch1], 1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_no_hits_digitise_to_nothing():
    empty = np.zeros((0, 3))
    clusters = digitise(Modules(detector_of([PIXEL])), np.zeros(0, int), empty, empty, np.random.default_rng(0))
    assert clusters.xyz.shape == (0, 3)
    assert len(clusters.hit) == 0


@pytest.mark.data
@needs_sample
def test_true_hits_of_the_real_event_digitise_to_its_clusters():
    names = ("hits", "truth", "cells")
    hits, truth, cells = (pd.read_csv(SAMPLE / f"event000000001-{name}.csv.gz") for name in names)
    table = pd.read_csv(SAMPLE / "detectors.csv.gz").sort_values(["volume_id", "layer_id", "module_id"])
    table = table.reset_index(drop=True)
    merged = hits.merge(table.reset_index(), on=["volume_id", "layer_id", "module_id"])
    merged = merged.merge(truth, on="hit_id").query("particle_id != 0")
    modules = Modules(Detector(table, np.arange(len(table), dtype=np.uint64), None, None))
    position, momentum = merged[["tx", "ty", "tz"]].to_numpy(), merged[["tpx", "tpy", "tpz"]].to_numpy()
    clusters = digitise(modules, merged["index"].to_numpy(), position, momentum, np.random.default_rng(0))
    size = np.bincount(clusters.hit, minlength=len(merged))
    real = cells.groupby("hit_id").size().reindex(merged["hit_id"]).to_numpy()
    endcap = ~merged["volume_id"].isin([8, 13, 17]).to_numpy()
    assert (size == real)[endcap].mean() > 0.97
    assert (size == real)[~endcap].mean() > 0.55
    assert size.mean() == pytest.approx(real.mean(), rel=0.08)
    error = np.linalg.norm(clusters.xyz - merged[["x", "y", "z"]].to_numpy(), axis=1)
    assert np.median(error[endcap & merged["volume_id"].isin([7, 9]).to_numpy()]) < 0.003


def primaries(n, particle_type=211):
    ids = pack_particle_id(np.full(n, 2), np.arange(1, n + 1), np.zeros(n, int), np.zeros(n, int))
    columns = {name: np.zeros(n) for name in ("vx", "vy", "vz", "vt", "px", "py", "pz", "m")}
    return pd.DataFrame({"particle_id": ids, "particle_type": particle_type, **columns, "q": 1})


def straight_hits(n_tracks, n_hits):
    """Hits at r = 30, 60, ... mm of each track, along x."""
    particle = np.repeat(np.arange(n_tracks), n_hits)
    position = np.zeros((len(particle), 3))
    position[:, 0] = np.tile(30.0 * np.arange(1, n_hits + 1), n_tracks)
    return SimulatedHits(particle, np.zeros(len(particle), int), position, np.ones_like(position))


def test_interactions_stop_hadrons_at_the_stated_rates():
    n_tracks, n_hits = 20_000, 10
    hits, particles = straight_hits(n_tracks, n_hits), primaries(n_tracks)
    kept, children = interactions.interact(hits, particles, np.random.default_rng(1))
    kept = kept.reshape(n_tracks, n_hits)
    assert (kept[:, :-1] >= kept[:, 1:]).all()  # nothing is left after an interaction
    n_kept = kept.sum(axis=1)
    assert (n_kept == 0).mean() == pytest.approx(0.025, abs=0.004)
    # An interaction after the last hit leaves the track whole; after each earlier one it does not.
    assert (n_kept == n_hits).mean() == pytest.approx(0.975 * 0.9842**9, abs=0.01)
    points = n_tracks * (1 - 0.975 * 0.9842**10)
    passing = np.mean(np.hypot(children["px"], children["py"]) > 0.1)
    assert passing == 1
    mean = 0.27 + 2 * 0.331 + 3 * 0.201 + 4 * 0.033 + 5 * 0.015
    assert len(children) / points == pytest.approx(0.857 * mean, rel=0.03)
    assert np.median(np.sqrt((children[["px", "py", "pz"]] ** 2).sum(axis=1))) == pytest.approx(0.272, abs=0.006)
    radius = np.hypot(children["vx"], children["vy"]).round(6)
    assert set(radius.unique()) == {19.0, *(30.0 * np.arange(1, 11))}
    parents = np.unique(children["particle_id"].to_numpy() >> 36)
    assert len(parents) > 1000
    assert (generation_number(children["particle_id"]) == 1).all()
    assert children["particle_id"].is_unique
    assert set(children["particle_type"]) == {2212, 211, -211}


@pytest.mark.parametrize("lepton", [11, -13, 15])
def test_leptons_do_not_interact(lepton):
    kept, children = interactions.interact(straight_hits(2000, 5), primaries(2000, lepton), np.random.default_rng(1))
    assert kept.all()
    assert len(children) == 0


def test_no_hits_no_interactions():
    kept, children = interactions.interact(no_hits(), primaries(3), np.random.default_rng(1))
    assert len(kept) == len(children) == 0


def test_noise_is_on_the_modules_and_shared_as_in_the_sample():
    rows = [(volume, 2 * i + 2, 1, (100.0 * volume, 0.0, 0.0), 4.0, 8.0, 36.0, 0.15, 0.05, 0.05625)
            for volume, counts in LAYER_COUNTS.items() for i in range(len(counts))]  # fmt: skip
    modules = Modules(detector_of(rows))
    module, position, direction = noise_hits(modules, 85_000, 0.15, np.random.default_rng(2))
    assert len(module) == pytest.approx(15_000, abs=500)
    local = modules.to_local(module, position, are_points=True)
    assert np.abs(local[:, 1]).max() <= 36
    assert (np.abs(local[:, 0]) <= 4 + 4 * (local[:, 1] + 36) / 72 + 1e-9).all()
    np.testing.assert_allclose(local[:, 2], 0, atol=1e-9)
    share = np.bincount(modules.volume_id[module], minlength=19) / len(module)
    total = sum(map(sum, LAYER_COUNTS.values()))
    for volume, counts in LAYER_COUNTS.items():
        assert share[volume] == pytest.approx(sum(counts) / total, abs=0.012)
    assert np.abs(direction.mean(axis=0)).max() < 0.05
    assert len(noise_hits(modules, 1000, 0.0, np.random.default_rng(2))[0]) == 0


def test_round_significant():
    values = np.array([0.0, 1234.5678, -0.000123456789, 9.9999996, 1e-12, -123456789.0, 30.04998779])
    rounded = round_significant(values, 6)
    assert [f"{x:.17g}" for x in rounded] == [f"{float(f'{x:.6g}'):.17g}" for x in values]


def small_event():
    particle_id = pack_particle_id([1, 1], [1, 2], [0, 0], [0, 0])
    hits = pd.DataFrame({"hit_id": [1, 2], "x": [1.23456789, 2.0], "y": [0.1, -1e-7], "z": [-1500.123456, 3.0]})
    hits[["volume_id", "layer_id", "module_id"]] = [[7, 2, 1], [8, 2, 5]]
    truth = pd.DataFrame({"hit_id": [1, 2], "particle_id": particle_id, "weight": [1 / 3, 2 / 3]})
    particles = pd.DataFrame({"particle_id": particle_id, "vz": [0.123456789, 1.0], "nhits": [1, 1]})
    return output.EventTables(7, hits, truth, particles)


def test_written_event_reads_back(tmp_path):
    event = small_event()
    for file_format in ("csv", "csv.gz", "parquet"):
        write_event(event, tmp_path, file_format)
    assert sorted(p.name for p in tmp_path.glob("*.csv")) == [
        f"event000000007-{part}.csv" for part in ("hits", "particles", "truth")
    ]
    text = (tmp_path / "event000000007-hits.csv").read_text()
    assert text.splitlines()[:2] == ["hit_id,x,y,z,volume_id,layer_id,module_id", "1,1.23457,0.1,-1500.12,7,2,1"]
    assert gzip.decompress((tmp_path / "event000000007-hits.csv.gz").read_bytes()).decode() == text
    hits = pd.read_parquet(tmp_path / "event000000007-hits.parquet")
    assert hits["x"].dtype == np.float32
    assert hits["x"][0] == np.float32(1.23456789)
    truth = pd.read_parquet(tmp_path / "event000000007-truth.parquet")
    assert truth["weight"].sum() == 1.0
    assert list(truth["particle_id"]) == list(event.truth["particle_id"])


def test_gz_bytes_do_not_depend_on_the_time(tmp_path, monkeypatch):
    write_event(small_event(), tmp_path / "a", "csv.gz")
    monkeypatch.setattr("time.time", lambda: 1.0)
    write_event(small_event(), tmp_path / "b", "csv.gz")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_failed_write_leaves_no_file(tmp_path):
    event = replace(small_event(), hits=pd.DataFrame({"hit_id": [1], "x": [object()]}))
    with pytest.raises(Exception, match="object"):
        write_event(event, tmp_path, "csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["acts", "pythia8mc"])
def test_missing_extra_says_what_to_install(package, monkeypatch, tmp_path):
    from trackbench.geometry import acts_detector
    from trackbench.simulation import generator

    monkeypatch.setitem(__import__("sys").modules, package, None)
    load = acts_detector.load_acts if package == "acts" else generator.load_pythia
    with pytest.raises(
        MissingExtraError, match=rf"'{package}' is not installed; run pip install 'trackbench\[simulate\]'"
    ):
        load()
