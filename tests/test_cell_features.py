"""Features of cells: against a twin in plain Python, from raw events through shards to trackers, and bad input."""

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from raw_events import DATA, SAMPLE, raw_tables, write_raw

from trackbench.cli import main as entry
from trackbench.data.cell_features import cell_features, turn_features
from trackbench.data.checks import check_charges
from trackbench.data.hits import CELL_FEATURES, HIT_COLUMNS
from trackbench.data.prepare import DataSelection, build_event, build_hits
from trackbench.data.reader import has_part, read_event
from trackbench.data.shard_file import Shard, shard_writer
from trackbench.data.shards import prepare_shard, read_events, write_index
from trackbench.data.splits import split_events
from trackbench.data.subevents import SubeventConfig, cut_shard
from trackbench.data.tracks import Tracks
from trackbench.errors import ConfigError, InputError
from trackbench.geometry.detector import ALL_LAYERS, MODULES_PER_LAYER
from trackbench.geometry.modules import cell_pitch, module_row, module_table

DETECTORS = DATA / "trackml-sample" / "detectors.csv.gz"
CELLS = DataSelection(cells=True)
needs_sample = pytest.mark.skipif(not DETECTORS.exists(), reason="no real TrackML sample beside the repository")


def twin(hits, cells, modules):
    """The features of each hit by the formulas, one hit and one cell at a time.

    modules: (volume, layer, module) -> rotation (rows of 3), module_t, pitch_u, pitch_v. Returns hit_id -> 8 numbers.
    """
    cells_of = {}
    for hit_id, ch0, ch1, value in zip(*(cells[name].tolist() for name in cells), strict=True):
        cells_of.setdefault(hit_id, []).append((ch0, ch1, value))
    found = {}
    names = ("hit_id", "volume_id", "layer_id", "module_id")
    for hit_id, *place in zip(*(hits[name].tolist() for name in names), strict=True):
        mine = cells_of.get(hit_id)
        if mine is None:
            found[hit_id] = (0.0,) * 8
            continue
        rotation, thickness, pitch_u, pitch_v = modules[tuple(place)]
        first, second = [cell[0] for cell in mine], [cell[1] for cell in mine]
        size = (
            (max(first) - min(first) + 1) * pitch_u,
            (max(second) - min(second) + 1) * pitch_v,
            2 * thickness,
        )
        turned = [sum(row[i] * size[i] for i in range(3)) for row in rotation]
        charge = sum(cell[2] for cell in mine) / len(mine)
        found[hit_id] = (charge, *direction(size), *size, *direction(turned))
    return found


def direction(vector):
    x, y, z = vector
    theta = math.atan2(math.hypot(x, y), z)
    return -math.log(math.tan(theta / 2)), math.atan2(y, x)


def own_modules():
    """The table of the package as the twin takes it."""
    table, row, modules = module_table(), 0, {}
    for volume, layer in ALL_LAYERS:
        for module in range(1, MODULES_PER_LAYER[volume, layer] + 1):
            pitch = table.pitch[row].tolist()
            modules[volume, layer, module] = (table.rotation[row].tolist(), float(table.thickness[row]), *pitch)
            row += 1
    return modules


def random_event(n=300, seed=0):
    """Raw hits on any modules and their cells, both in random order; about every tenth hit has no cell."""
    rng = np.random.default_rng(seed)
    layer = rng.integers(0, len(ALL_LAYERS), n)
    volume_id, layer_id = np.array(ALL_LAYERS)[layer].T
    module_id = rng.integers(1, np.array([MODULES_PER_LAYER[key] for key in ALL_LAYERS])[layer] + 1)
    hit_id = rng.permutation(np.arange(10, 10 + 3 * n, 3))
    columns = {"hit_id": hit_id, **dict.fromkeys("xyz", np.ones(n))}
    hits = pd.DataFrame({**columns, "volume_id": volume_id, "layer_id": layer_id, "module_id": module_id})
    owner = rng.choice(hit_id[rng.random(n) < 0.9], 5 * n)
    ch0, ch1 = rng.integers(0, 300, 5 * n), rng.integers(0, 1200, 5 * n)
    value = rng.uniform(0.01, 0.5, 5 * n).astype(np.float32)
    return hits, pd.DataFrame({"hit_id": owner, "ch0": ch0, "ch1": ch1, "value": value})


def as_array(features):
    return np.stack([features[name] for name in CELL_FEATURES], axis=1)


def cell_tables(seed=0):
    """Raw tables of a toy event with one to four cells a hit; the cells are not in the order of the hits."""
    tables = raw_tables(seed=seed)
    rng = np.random.default_rng(seed)
    hit_id = rng.permutation(np.repeat(tables["hits"]["hit_id"].to_numpy(), rng.integers(1, 5, len(tables["hits"]))))
    columns = {"hit_id": hit_id, "ch0": rng.integers(0, 9, len(hit_id)), "ch1": rng.integers(0, 9, len(hit_id))}
    cells = pd.DataFrame({**columns, "value": rng.uniform(0.01, 0.4, len(hit_id))})
    tables["cells"] = cells.astype(tables["cells"].dtypes.to_dict())
    return tables


# --- the modules


def test_rows_of_the_published_table():
    """Four rows of detectors.csv, one of each kind of frame: rot_xu, rot_xv, rot_xw, rot_yu, ..., pitch_v."""
    rows = {
        (7, 2, 1): ((0.0784591, -0.996917, 0, -0.996917, -0.0784591, 0, 0, 0, -1), 0.15, (0.05, 0.05625)),
        (7, 2, 2): ((0.0461835, -0.998933, 0, -0.998933, -0.0461835, 0, 0, 0, -1), 0.15, (0.05, 0.05625)),
        (8, 2, 1): ((0.330043, 0, -0.943966, -0.943966, 0, -0.330043, 0, 1, 0), 0.15, (0.05, 0.05625)),
        (8, 2, 38): ((0.745809, 0, 0.66616, 0.66616, 0, -0.745809, 0, 1, 0), 0.15, (0.05, 0.05625)),
    }
    table = module_table()
    for key, (rotation, thickness, pitch) in rows.items():
        row = module_row(*([value] for value in key))[0]
        np.testing.assert_allclose(table.rotation[row].ravel(), rotation, atol=1e-6)
        assert (table.thickness[row], tuple(table.pitch[row])) == (thickness, pitch)
    assert [cell_pitch(volume) for volume in (13, 16, 17)] == [(0.08, 1.2), (0.12, 10.4), (0.12, 10.8)]


def test_every_module_has_one_row_and_a_frame():
    ids = np.array([(*key, module + 1) for key in ALL_LAYERS for module in range(MODULES_PER_LAYER[key])])
    np.testing.assert_array_equal(module_row(*ids.T), np.arange(18728))
    table = module_table()
    assert [array.shape for array in table] == [(18728, 3, 3), (18728,), (18728, 2)]
    product = table.rotation @ table.rotation.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(table.rotation), 1)
    assert module_row([8, 8, 10, 7, -1], [2, 2, 2, 3, 2], [0, 225, 1, 1, 1]).tolist() == [-1] * 5
    with pytest.raises(ValueError, match="read-only"):
        table.pitch[0] = 0


@pytest.mark.data
@needs_sample
def test_modules_agree_with_the_published_table():
    real = pd.read_csv(DETECTORS)
    row = module_row(real["volume_id"], real["layer_id"], real["module_id"])
    np.testing.assert_array_equal(np.sort(row), np.arange(len(real)))
    table = module_table()
    rotation = real[[f"rot_{axis}{local}" for axis in "xyz" for local in "uvw"]].to_numpy()
    np.testing.assert_allclose(table.rotation[row].reshape(-1, 9), rotation, atol=6e-7)
    np.testing.assert_array_equal(table.thickness[row], real["module_t"])
    np.testing.assert_array_equal(table.pitch[row], real[["pitch_u", "pitch_v"]])


def test_modules_agree_with_the_simulated_detector():
    pytest.importorskip("acts")
    from trackbench.geometry.acts_detector import ROTATION_COLUMNS, build_detectors

    built, table = build_detectors(), module_table()
    np.testing.assert_allclose(table.rotation.reshape(-1, 9), built[ROTATION_COLUMNS], atol=1e-9)
    np.testing.assert_allclose(table.thickness, built["module_t"])
    np.testing.assert_array_equal(table.pitch, built[["pitch_u", "pitch_v"]])


# --- the features


def test_features_by_hand():
    """A cluster of 3 x 2 cells on the first pixel module, rotated by the row of the published table."""
    hits = pd.DataFrame([(5, 7, 2, 1)], columns=["hit_id", "volume_id", "layer_id", "module_id"])
    cells = pd.DataFrame([(5, 12, 7, 0.3), (5, 10, 8, 0.1), (5, 11, 8, 0.2)], columns=["hit_id", "ch0", "ch1", "value"])
    found = {name: values.item() for name, values in cell_features(hits, cells).items()}
    assert list(found) == list(CELL_FEATURES)
    assert found["charge_frac"] == pytest.approx(0.2)
    assert (found["lx"], found["ly"], found["lz"]) == pytest.approx((0.15, 0.1125, 0.3))
    assert found["lphi"] == pytest.approx(math.atan(0.75))
    assert found["leta"] == pytest.approx(math.asinh(0.3 / 0.1875))
    assert found["geta"] == pytest.approx(-math.asinh(0.3 / 0.1875))
    x, y = 0.0784591 * 0.15 - 0.996917 * 0.1125, -0.996917 * 0.15 - 0.0784591 * 0.1125
    assert found["gphi"] == pytest.approx(math.atan2(y, x), abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_features_are_those_of_the_twin_whatever_the_order(seed):
    hits, cells = random_event(seed=seed)
    expected = twin(hits, cells, own_modules())
    found = cell_features(hits, cells)
    assert all(values.dtype == np.float32 for values in found.values())
    rows = np.array([expected[hit_id] for hit_id in hits["hit_id"]])
    without = ~np.isin(hits["hit_id"], cells["hit_id"])
    assert 10 < without.sum() < 100
    assert (as_array(found)[without] == 0).all()
    assert (as_array(found)[~without, 3:6] > 0).all()
    np.testing.assert_allclose(as_array(found), rows, rtol=1e-6, atol=1e-6)
    order = np.random.default_rng(seed).permutation(len(hits))
    shuffled = cell_features(hits.iloc[order], cells.sort_values(["hit_id", "ch1"]))
    np.testing.assert_array_equal(as_array(shuffled), as_array(found)[order])  # to the last bit


@pytest.mark.data
@needs_sample
def test_features_of_the_real_event_with_its_own_table():
    hits, cells = read_event(SAMPLE, ("hits", "cells"))
    real = pd.read_csv(DETECTORS)
    names = [f"rot_{axis}{local}" for axis in "xyz" for local in "uvw"]
    keys = real[["volume_id", "layer_id", "module_id"]].itertuples(index=False, name=None)
    rotation = real[names].to_numpy().reshape(-1, 3, 3).tolist()
    others = (real[name].tolist() for name in ("module_t", "pitch_u", "pitch_v"))
    expected = twin(hits, cells, dict(zip(keys, zip(rotation, *others, strict=True), strict=True)))
    found = as_array(cell_features(hits, cells))
    rows = np.array([expected[hit_id] for hit_id in hits["hit_id"]])
    assert len(found) == 5527
    rows[:, 7] = found[:, 7] + (rows[:, 7] - found[:, 7] + np.pi) % (2 * np.pi) - np.pi  # gphi on its circle
    np.testing.assert_allclose(found, rows, rtol=2e-6, atol=2e-5)  # the table has six digits
    assert (found[:, 3:6] > 0).all()


def test_no_hits_and_no_cells():
    hits, cells = random_event(20)
    assert (as_array(cell_features(hits, cells[:0])) == 0).all()
    assert as_array(cell_features(hits[:0], cells[:0])).shape == (0, 8)


def test_turned_features_are_those_of_the_turned_detector():
    hits, cells = random_event()
    found = cell_features(hits, cells)
    angle = np.random.default_rng(3).uniform(-9, 9, len(hits))
    turned = turn_features({**found, "other": angle}, angle)
    has_cells = found["lx"] > 0
    for name in (*CELL_FEATURES[:-1], "other"):
        assert turned[name] is {**found, "other": angle}[name]
    assert turned["gphi"].dtype == np.float32
    for part in (np.cos, np.sin):
        np.testing.assert_allclose(part(turned["gphi"] - angle)[has_cells], part(found["gphi"])[has_cells], atol=2e-6)
    assert (turned["gphi"][~has_cells] == 0).all()
    assert np.abs(turned["gphi"]).max() <= np.float32(np.pi)
    assert turn_features({"other": angle}, 1.0) == {"other": angle}


def change(name, row, value):
    def apply(table):
        table.loc[row, name] = value

    return apply


@pytest.mark.parametrize(
    ("part", "apply", "words"),
    [
        ("cells", change("hit_id", 7, 11), r"cells: cells of hits that do not exist \(first hit_id 11\)"),
        ("cells", change("value", 7, np.nan), r"1 non-finite cell values \(first: hit_id \d+ has nan\)"),
        ("cells", change("value", [7, 9], np.inf), r"2 non-finite cell values \(first: hit_id \d+ has inf\)"),
        ("hits", change("module_id", 3, 5000), r"hits table: hit_id \d+ is on volume \d+ layer \d+ module 5000"),
        ("hits", change("volume_id", 3, 10), "is on volume 10 layer"),
    ],
)
def test_wrong_cells(part, apply, words):
    tables = dict(zip(("hits", "cells"), random_event(), strict=True))
    apply(tables[part])
    with pytest.raises(InputError, match=words):
        cell_features(tables["hits"], tables["cells"])


def test_wrong_cells_of_an_event_without_hits():
    hits, cells = random_event(5)
    with pytest.raises(InputError, match="cells of hits that do not exist"):
        cell_features(hits[:0], cells)


# --- from raw events to shards


def prepare(raw, out, shard_events=2, n_events=3, selection=CELLS):
    paths = []
    for shard in range(-(-n_events // shard_events)):
        paths.append(out / f"shard-{shard:04d}-hits.parquet")
        particles = out / f"shard-{shard:04d}-particles.parquet"
        prepare_shard([raw], shard, shard_events, n_events, selection, paths[-1], particles)
    index(paths, out, n_events)
    return out / "index.csv"


def index(paths, out, n_events):
    splits = split_events(n_events, {"test": n_events}, seed=1)
    write_index(paths, out / "index.csv", out / "manifest.json", splits, {}, lambda table: table["pt"] > 0.9)


@pytest.fixture
def raw(tmp_path):
    for event_id in (1, 2, 3):
        write_raw(cell_tables(event_id), tmp_path / "raw", event_id)
    return tmp_path / "raw"


@pytest.mark.parametrize("detector", ["pixel", "full"])
def test_shards_keep_the_features_bit_for_bit(raw, tmp_path, detector):
    path = prepare(raw, tmp_path / "out", selection=DataSelection(detector, cells=True))
    events = list(read_events(path, "test"))
    assert [hits.event_id for hits, _ in events] == [1, 2, 3]
    modules = own_modules()
    for hits, truth in events:
        tables = cell_tables(hits.event_id)
        expected = twin(tables["hits"], tables["cells"], modules)
        found = as_array(hits.features)
        np.testing.assert_allclose(found, [expected[hit_id] for hit_id in hits.hit_id], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(truth.hit_id, hits.hit_id)
        frames = tuple(tables[part] for part in ("hits", "particles", "truth", "cells"))
        direct, _ = build_event(frames, DataSelection(detector, cells=True), hits.event_id)
        np.testing.assert_array_equal(as_array(direct.features), found)
        assert direct.features["lx"].dtype == hits.features["lx"].dtype == np.float64
        alone = build_hits(tables["hits"], DataSelection(detector, cells=True), hits.event_id, tables["cells"])
        np.testing.assert_array_equal(as_array(alone.features), found)
    shard = Shard(path.with_name("shard-0000-hits.parquet"))
    assert shard.features == CELL_FEATURES
    both = shard.read_many([1, 0])
    for (hits, _), (expected, _) in zip(both, (events[1], events[0]), strict=True):
        np.testing.assert_array_equal(as_array(hits.features), as_array(expected.features))


def test_layout_and_manifest(raw, tmp_path):
    path = prepare(raw, tmp_path / "out")
    frame = pd.read_parquet(path.with_name("shard-0000-hits.parquet"))
    assert list(frame) == ["event_id", *HIT_COLUMNS, "particle_id", "weight", *CELL_FEATURES]
    assert {frame[name].dtype for name in CELL_FEATURES} == {np.dtype(np.float32)}
    manifest = json.loads(path.with_name("manifest.json").read_text())
    assert manifest["selection"]["cells"] is True
    assert manifest["selection_label"] == "pixel hits, noise kept"
    assert DataSelection().features == () and CELLS.features == CELL_FEATURES


def test_without_cells_nothing_changes(raw, tmp_path):
    """No features, no such columns, and the same numbers: the hash of an event is that of its other columns."""
    path = prepare(raw, tmp_path / "plain", selection=DataSelection())
    assert all(hits.features == {} for hits, _ in read_events(path, "test"))
    frame = pd.read_parquet(path.with_name("shard-0000-hits.parquet"))
    assert list(frame) == ["event_id", *HIT_COLUMNS, "particle_id", "weight"]
    manifest = json.loads(path.with_name("manifest.json").read_text())
    assert manifest["selection"]["cells"] is False
    other = prepare(raw, tmp_path / "cells")
    changed = json.loads(other.with_name("manifest.json").read_text())
    assert manifest["sha256"] != changed["sha256"]
    assert {name: manifest[name] for name in ("n_events", "n_hits_mean")} == {
        name: changed[name] for name in ("n_events", "n_hits_mean")
    }


def test_shards_from_before_the_option_are_read(raw, tmp_path):
    """A selection without the key is one without cells, alone and beside a new shard."""
    path = prepare(raw, tmp_path / "new", selection=DataSelection())
    old = tmp_path / "old"
    old.mkdir()
    for name in ("shard-0000", "shard-0001"):
        source = Shard(path.with_name(f"{name}-hits.parquet"))
        with shard_writer(old / f"{name}-hits.parquet", old / f"{name}-particles.parquet") as writer:
            for row in range(len(source.events)):
                writer.add(*source.read(row))
            metadata = source.metadata
            if name == "shard-0000":
                del metadata["selection"]["cells"]
            writer.set_metadata(metadata)
    index([old / "shard-0000-hits.parquet", old / "shard-0001-hits.parquet"], old, 3)
    found, expected = (list(read_events(folder / "index.csv", "test")) for folder in (old, path.parent))
    for (hits, _), (other, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(hits.xyz, other.xyz)
        assert hits.features == {}


def test_sharding_and_order_change_nothing_and_bytes_repeat(raw, tmp_path):
    first, second = prepare(raw, tmp_path / "a", 2), prepare(raw, tmp_path / "b", 3)
    manifests = [json.loads(path.with_name("manifest.json").read_text()) for path in (first, second)]
    assert manifests[0]["sha256"] == manifests[1]["sha256"]
    prepare(raw, tmp_path / "again", 2)
    for event_id in (1, 2, 3):  # the same cells in another order, in another format
        tables = cell_tables(event_id)
        tables["cells"] = tables["cells"].sample(frac=1, random_state=event_id, ignore_index=True)
        write_raw(tables, tmp_path / "shuffled", event_id, ".parquet")
    prepare(tmp_path / "shuffled", tmp_path / "c", 2)
    for path in sorted((tmp_path / "a").iterdir()):
        digests = {
            hashlib.sha256((tmp_path / name / path.name).read_bytes()).hexdigest() for name in ("a", "again", "c")
        }
        assert len(digests) == 1, path.name


def test_shards_with_and_without_features_do_not_mix(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out, 2)
    hits = out / "shard-0001-hits.parquet"
    prepare_shard([raw], 1, 2, 3, DataSelection(), hits, out / "shard-0001-particles.parquet")
    with pytest.raises(InputError, match="its shards have different selections"):
        index([out / "shard-0000-hits.parquet", hits], out, 3)


def test_sub_events_have_the_features_of_their_parents(raw, tmp_path):
    path = prepare(raw, tmp_path / "out", 3, selection=DataSelection("full", cells=True))
    hits_path = tmp_path / "cut" / "shard-0000-hits.parquet"
    hits_path.parent.mkdir()
    cut_shard(
        path.with_name("shard-0000-hits.parquet"),
        SubeventConfig(1, 2, 100, draws=2),
        hits_path,
        hits_path.with_name("shard-0000-particles.parquet"),
    )
    parent = {hits.event_id: hits for hits, _ in read_events(path, "test")}
    shard = Shard(hits_path)
    for row, event in enumerate(shard.events):
        hits, _ = shard.read(row)
        whole = parent[event["event_id"] // 1000]
        kept = np.isin(whole.hit_id, hits.hit_id)
        np.testing.assert_array_equal(as_array(hits.features), as_array(whole.features)[kept])


def test_event_without_a_cells_file(raw, tmp_path):
    (raw / "event000000002-cells.csv").unlink()
    out = tmp_path / "out"
    with pytest.raises(InputError) as error:
        prepare(raw, out)
    message = str(error.value)
    assert message.startswith(f"{raw}: no cells file, expected event000000002-cells.parquet or ")
    assert message.endswith("; give it, simulate with cells, or do without cell features (data.cells: false).")
    assert "\n" not in message
    assert not list(out.glob("*"))
    assert has_part(raw / "event000000001", "cells") and not has_part(raw / "event000000002", "cells")
    prepare(raw, out, selection=DataSelection())  # nobody asked for cells


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("hit_id", 9999, r"event000000003-cells\.csv: cells of 1 hits that do not exist \(first hit_id 9999\)"),
        ("value", np.inf, r"event000000003-cells\.csv: 1 non-finite values in column value"),
    ],
)
def test_wrong_cells_in_a_file(raw, tmp_path, name, value, words):
    tables = cell_tables(3)
    tables["cells"].loc[4, name] = value
    write_raw(tables, raw, 3)
    with pytest.raises(InputError, match=words):
        prepare(raw, tmp_path / "out")
    assert not list((tmp_path / "out").glob("shard-0001*"))


def test_corrupt_values_are_limited_and_grazing_tracks_are_not(raw, tmp_path, caplog):
    tables = cell_tables(2)
    tables["cells"].loc[[3, 5, 6], "value"] = [7e5, 2.05137, -1]
    write_raw(tables, raw, 2)
    events = {hits.event_id: hits for hits, _ in read_events(prepare(raw, tmp_path / "out"), "test")}
    assert "event000000002-cells.csv: clipped 2 cell values to [0, 1]" in caplog.text
    tables["cells"].loc[[3, 6], "value"] = [1, 0]
    expected = build_hits(tables["hits"], CELLS, 2, tables["cells"])
    np.testing.assert_array_equal(as_array(events[2].features), as_array(expected.features))
    assert check_charges(tables["cells"], "x", "repair") is tables["cells"]


def test_wrong_options():
    with pytest.raises(ConfigError, match=r"data\.cells: value 'yes', expected true or false"):
        DataSelection(cells="yes")
    tables = cell_tables()
    with pytest.raises(InputError, match=r"event 7: the cells are not given, .*set data\.cells to false"):
        build_event(tuple(tables[part] for part in ("hits", "particles", "truth")), CELLS, 7)
    with pytest.raises(InputError, match="event 7: the cells are not given"):
        build_hits(tables["hits"], CELLS, 7)


def test_hits_without_features_do_not_fit_a_shard_with_them(tmp_path):
    tables = cell_tables()
    event = build_event(tuple(tables[part] for part in ("hits", "particles", "truth")), DataSelection(), 7)
    with (
        pytest.raises(InputError, match=r"event 7: no feature charge_frac, .*prepare with data\.cells"),
        shard_writer(
            tmp_path / "shard-0-hits.parquet", tmp_path / "shard-0-particles.parquet", CELL_FEATURES
        ) as writer,
    ):
        writer.add(*event)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="expected"), shard_writer(tmp_path / "x", tmp_path / "y", ("lx",)):
        pass


# --- the command


class Watcher:
    """Stands in for a tracker and keeps what it was given."""

    def __init__(self, needs_features):
        self.needs_features = needs_features
        self.seen = []

    def reconstruct_tracks(self, hits):
        self.seen.append(hits)
        return Tracks(np.zeros(len(hits), np.int64))


@pytest.mark.parametrize("needs_features", [True, False])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_reconstruct_reads_cells_for_trackers_that_use_them(monkeypatch, tmp_path, needs_features, suffix):
    tracker = Watcher(needs_features)
    monkeypatch.setattr("trackbench.trackers.base.build_tracker", lambda *args: tracker)
    tables = cell_tables(1)
    write_raw(tables, tmp_path / "raw", 1, suffix)
    del tables["cells"]
    write_raw(tables, tmp_path / "raw", 2, suffix)
    argv = ["--quiet", "reconstruct", "dbscan", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert entry.main(argv) == 0
    first, second = tracker.seen
    assert (first.event_id, second.event_id, second.features) == (1, 2, {})
    if not needs_features:
        assert first.features == {}
        return
    expected = build_hits(cell_tables(1)["hits"], DataSelection("full", cells=True), 1, cell_tables(1)["cells"])
    np.testing.assert_array_equal(as_array(first.features), as_array(expected.features))
    np.testing.assert_array_equal(first.hit_id, expected.hit_id)
