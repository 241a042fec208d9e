"""The study on a lent machine: what it consists of, workers, deadlines, resuming, records."""

import json
import math
import os
import signal
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_tasks import write_toy_sample
from toys import toy_event

from trackbench.campaign import bench as bench_module
from trackbench.campaign import collision_record, collision_samples, record, trainings
from trackbench.campaign.bench import Bench
from trackbench.campaign.collision_samples import collision_shard_files
from trackbench.campaign.rows import submit_rows
from trackbench.campaign.samples import Samples
from trackbench.campaign.study import Study, read_study
from trackbench.campaign.trainings import check_settings, progress, train_models
from trackbench.campaign.workers import Clock, Workers
from trackbench.errors import ConfigError, InputError, Stopped, TrackbenchError
from trackbench.training import run as training_run
from trackbench.training.deadline import stop_after
from trackbench.training.sitting import stop_signals

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
NETWORK = {"width": 8, "heads": 2, "ffn": 16, "layers": 1}
TRAINING = {"steps": 6, "batch_size": 4, "validate_every": 3, "checkpoint_every": 2, "label": "toy"}


@pytest.fixture
def study(tmp_path):
    found = read_study(ROOT / "gpu/tiny.yaml", SCHEMA, tmp_path, "cpu")
    models = {"encreg": {"task": "encreg", "sets": ["3-6", "6-12"], "network": NETWORK, "loss": {}}}
    models["encreg"] |= {"training": TRAINING, "overrides": {"6-12": {"training": {"steps": 4}}}}
    trackers = found.config["subevents"]["trackers"]
    rows = {name: trackers[name] for name in ("hit_angles", "encreg")}
    config = {**found.config, "models": models, "subevents": {**found.config["subevents"], "trackers": rows}}
    return replace(found, config={**config, "collisions": {**found.config["collisions"], "sets": {}, "trackers": {}}})


@pytest.fixture
def samples(study):
    torch.set_num_threads(1)
    for name in study.sets:
        write_toy_sample(study.sample(name))
    return study


@pytest.fixture
def whole(tmp_path):
    """A study of whole events alone."""
    found = read_study(ROOT / "gpu/tiny.yaml", SCHEMA, tmp_path, "cpu")
    models = {name: model for name, model in found.config["models"].items() if model["task"] == "heptv2"}
    few = {**found.config["subevents"], "sets": {}}
    return replace(found, config={**found.config, "models": models, "subevents": few})


def later(seconds=60.0):
    return Clock(time.monotonic() + seconds)


def test_parents_are_numbered_as_in_the_workflow_and_cover_all_shards(study):
    config = dict(study.config["subevents"], parents={"events": {"train": 3, "val": 1, "test": 1}, "shard_events": 2})
    five = replace(study, config={**study.config, "subevents": config})
    assert five.shards() == ["0000", "0001", "0002"]
    numbers = [five.event_numbers(shard) for shard in five.shards()]
    assert numbers == [[20000001, 20000002], [20000003, 20000004], [20000005]]


def test_rows_and_trainings_are_in_the_order_of_the_configuration(study):
    assert study.trainings() == [("encreg", "3-6"), ("encreg", "6-12")]
    full = read_study(ROOT / "config/gpu.yaml", SCHEMA, study.folder)
    assert [name for name, _ in full.trainings()][:4] == ["contrastive"] * 3 + ["encreg"]
    kinds = {row: (kind, model) for row, kind, model in full.rows("50-100")}
    assert kinds["hit_angles"] == ("floor", None)
    assert kinds["contrastive_greedy"] == ("trained", "contrastive")


def test_samples_of_whole_events_are_numbered_as_in_the_workflow(tmp_path):
    full = read_study(ROOT / "config/gpu-heptv2.yaml", SCHEMA, tmp_path)
    assert full.origins == ("pileup-200-first", "pileup-200")
    assert full.prepared_with("pileup-200") == ["pileup-200", "pileup-200-filtered"]
    assert len(full.collision_shards("pileup-200-first")) == 48
    assert full.collision_numbers("pileup-200-first", "0047") == list(range(40_000_471, 40_000_481))
    assert full.collision_numbers("pileup-200", "0000")[0] == 41_000_001
    assert full.collision_simulation("pileup-200").cells and full.collision_simulation("pileup-200").pileup == 200
    assert not full.hit_selection("pileup-200").truth_filter
    assert full.hit_selection("pileup-200-filtered").truth_filter and full.hit_selection("pileup-200").cells
    seeded, learned, _ = full.trainings()
    assert seeded == ("heptv2_seeded", "pileup-200-first") and learned == ("heptv2", "pileup-200")
    assert full.blocks(*seeded)["network"]["queries"] == "seeded"
    assert full.blocks(*learned)["network"] == {}  # the published one


def test_samples_of_whole_events_that_are_not_simulated_are_refused(tmp_path):
    text = (ROOT / "gpu/tiny.yaml").read_text().replace("shard_events: 3, simulate", "source: data, simulate")
    path = tmp_path / "x.yaml"
    path.write_text(text.replace("pileup: 1, hard_process: ttbar", ""))
    with pytest.raises(ConfigError, match=r"collisions.sets.pileup-1.source: value 'data', expected simulate"):
        read_study(path, SCHEMA, tmp_path)


def test_events_of_other_samples_are_refused(whole):
    whole.claim()
    sets = whole.config["collisions"]["sets"]
    more = {**sets, "pileup-1": {**sets["pileup-1"], "events": {"train": 4, "val": 1, "test": 2}}}
    other = replace(whole, config={**whole.config, "collisions": {**whole.config["collisions"], "sets": more}})
    with pytest.raises(ConfigError, match=r"another configuration \(collisions\)"):
        other.claim()


class Fakes:
    """Workers that note tasks; a test makes their files."""

    def __init__(self):
        self.names, self.waits = [], 0

    def submit(self, name, *_):
        self.names.append(name)

    def wait(self, clock, enough):
        self.waits += 1
        return enough()


def make_shards(study, set_name, shards):
    for shard in shards:
        for path in collision_shard_files(study, set_name, shard):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_a_sample_is_there_once_its_own_shards_are(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("trackbench.simulation.generator.prepare_generator", lambda *_: None)
    monkeypatch.setattr(collision_samples, "write_index", lambda hits, index, manifest, *_: manifest.touch())
    workers = Fakes()
    samples = Samples(whole, tmp_path / "cache", workers)
    samples.begin()
    assert workers.names == ["shard 0000 of pileup-1", "shard 0001 of pileup-1"]
    make_shards(whole, "pileup-1", ["0000", "0001"])
    make_shards(whole, "pileup-1-filtered", ["0000"])
    assert samples.wait("pileup-1", later()) and workers.waits == 0
    assert not samples.ready("pileup-1-filtered")
    assert not samples.wait("pileup-1-filtered", later()) and workers.waits == 1
    # A later call makes what is missing; the derived sample comes with the shard of its origin.
    again = Fakes()
    Samples(whole, tmp_path / "cache", again).begin()
    assert again.names == ["shard 0001 of pileup-1"]
    make_shards(whole, "pileup-1-filtered", ["0001"])
    assert samples.ready("pileup-1-filtered")


def test_a_training_waits_for_its_own_sample_only(samples):
    asked = []

    def wait(set_name, clock):
        asked.append(set_name)
        return set_name == "3-6"

    assert not train_models(samples, later(), 1, "code", lambda: None, wait)
    assert asked == ["3-6", "6-12"]
    assert [one.state for one in progress(samples)] == ["trained", "not begun"]


def test_rows_of_derived_samples_use_the_weights_of_their_origin(whole):
    noted, submitted = Noted(), set()
    names = ("pileup-1", "pileup-1-filtered")
    submit_rows(whole, noted, submitted, names)
    assert noted.names == [f"helix_finder of {name}" for name in names]
    weights = whole.weights("heptv2", "pileup-1")
    weights.parent.mkdir(parents=True)
    weights.touch()
    submit_rows(whole, noted, submitted, names)
    assert noted.names[2:] == [f"heptv2 of {name}" for name in names]


def test_without_rows_of_whole_events_there_is_progress_and_the_target(whole):
    assert collision_record.collision_tables(whole, ROOT / "config/published.csv") == {}
    machine = {"device": "cpu", "versions": {"torch": "2"}, "commit": "abc", "code": "d", "machine": {"cpu": "x"}}
    text = record.tables_text(whole, None, record.study_record(whole, None, machine, {}), {})
    assert "| heptv2_seeded | pileup-1 | not begun | 0 of 8 | - | - |" in text
    assert "No row is evaluated yet" in text and collision_record.TARGET in text
    assert "floor and ceilings" not in text


def test_weights_of_whole_events_are_packed_one_by_one(whole, tmp_path):
    for model in ("heptv2", "heptv2_seeded"):
        weights = whole.weights(model, "pileup-1")
        weights.parent.mkdir(parents=True)
        for path in (weights, trainings.facts_file(weights), trainings.history_file(weights)):
            path.write_text(model)
    paths = record.write_out(whole, tmp_path / "out", {}, {})
    expected = ["gpu-train.json", "weights-pileup-1-heptv2.zip", "weights-pileup-1-heptv2_seeded.zip"]
    assert [path.name for path in paths] == expected


def test_workers_are_not_waited_for_longer_than_needed():
    begin = time.monotonic()
    with Workers(1) as workers:
        workers.submit("long", time.sleep, 600)
        assert not workers.wait(later(300), lambda: True)
    assert time.monotonic() - begin < 60


def test_events_of_another_seed_are_refused_and_nothing_is_lost(study):
    study.claim()
    study.claim()
    path = study.folder / "data.json"
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"another configuration \(seed\)"):
        replace(study, config={**study.config, "seed": 6}).claim()
    assert path.read_bytes() == before
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        study.claim()


def test_settings_of_the_device_go_to_the_training(study):
    assert study.blocks("encreg", "3-6")["training"] == {**TRAINING, "device": "cpu"}
    assert study.blocks("encreg", "6-12")["training"]["steps"] == 4


@pytest.mark.parametrize("content", ["- a", "run: [", ""])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match="configuration"):
        read_study(path, SCHEMA, tmp_path)


def test_workers_finish_what_they_can_before_they_tell_what_failed():
    with Workers(1) as workers:
        workers.submit("root", math.sqrt, 4.0)
        workers.submit("bad", math.sqrt, -1.0)
        workers.submit("root", math.sqrt, 9.0)
        with pytest.raises(ValueError, match=r"math domain|nonnegative"):
            workers.wait(later())


def test_workers_end_with_the_clock():
    begin = time.monotonic()
    with Workers(1) as workers:
        workers.submit("long", time.sleep, 600)
        assert not workers.wait(later(0.5))
    assert time.monotonic() - begin < 60


def test_the_deadline_stops_the_loop_as_a_batch_system_would():
    before = signal.getsignal(signal.SIGTERM)
    with stop_after(0.05) as deadline, stop_signals() as stop:
        end = time.monotonic() + 20
        while not stop.name and time.monotonic() < end:
            time.sleep(0.01)
    assert stop.name == "SIGTERM"
    assert deadline.reached
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_outside_the_loop_is_an_error_and_the_timer_ends_with_the_block():
    with stop_after(30) as deadline, pytest.raises(TrackbenchError, match="outside its loop"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert not deadline.reached
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def stop_in_step(monkeypatch, number):
    """Let the time be over while batch ``number`` is made: the deadline's signal comes then."""
    plain = training_run.Trainer._batch

    def batch(self, step):
        if step == number:
            signal.raise_signal(signal.SIGALRM)
        return plain(self, step)

    monkeypatch.setattr(training_run.Trainer, "_batch", batch)


def test_trainings_stopped_by_the_clock_go_on_to_the_same_bytes(samples, tmp_path, monkeypatch):
    whole = replace(samples, folder=tmp_path / "whole")
    whole.folder.mkdir()
    (whole.folder / "prepared").symlink_to(samples.folder / "prepared")
    calls = []
    assert train_models(whole, later(), 1, "code", lambda: calls.append(1))
    assert len(calls) == 2
    stop_in_step(monkeypatch, 3)
    assert not train_models(samples, later(), 1, "code", lambda: calls.append(2))
    first, second = progress(samples)
    assert (first.state, first.steps, first.of_steps, second.state) == ("in training", 3, 6, "not begun")
    assert first.best_step == 3
    monkeypatch.undo()
    assert not train_models(samples, later(1.0), 1, "code", lambda: calls.append(2))  # too little time to begin
    assert train_models(samples, later(), 1, "code", lambda: calls.append(2))
    for what in samples.trainings():
        assert samples.weights(*what).read_bytes() == whole.weights(*what).read_bytes()
    assert [one.state for one in progress(samples)] == ["trained"] * 2
    assert calls == [1, 1, 2, 2]


def test_a_failed_training_does_not_stop_the_others(samples, monkeypatch):
    plain = trainings._train

    def train(study, what, *rest):
        if what == ("encreg", "3-6"):
            raise RuntimeError("CUDA out of memory")
        return plain(study, what, *rest)

    monkeypatch.setattr(trainings, "_train", train)
    with pytest.raises(TrackbenchError, match=r"encreg on 3-6 \(CUDA out of memory"):
        train_models(samples, later(), 1, "code", lambda: None)
    assert [one.state for one in progress(samples)] == ["not begun", "trained"]


def test_a_batch_system_that_stops_a_training_stops_all(samples, monkeypatch):
    """SIGTERM before the time is over: the training saves, the next one is not begun, the same call goes on."""
    plain, steps = training_run.Trainer._batch, []

    def batch(self, step):
        steps.append(step)
        if len(steps) == 4:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, step)

    monkeypatch.setattr(training_run.Trainer, "_batch", batch)
    with pytest.raises(Stopped, match="stopped by SIGTERM at step 4 of 6, saved"):
        train_models(samples, later(), 1, "code", lambda: None)
    first, second = progress(samples)
    assert (first.state, second.state) == ("in training", "not begun") and steps == [0, 1, 2, 3]
    assert train_models(samples, later(), 1, "code", lambda: None)
    assert steps[4:] == [4, 5, 0, 1, 2, 3]


def test_a_training_that_fails_as_the_time_is_over_has_failed(samples, monkeypatch):
    def fail(*_):
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(training_run.Trainer, "_step", fail)
    monkeypatch.setattr(training_run.Trainer, "_save", lambda *_: (_ for _ in ()).throw(InputError("disk full")))
    with pytest.raises(TrackbenchError, match=r"failed: encreg on 3-6 \(disk full\); encreg on 6-12 \(disk full\)"):
        train_models(samples, later(), 1, "code", lambda: None)


def test_weights_of_other_settings_are_refused(samples):
    assert train_models(samples, later(), 1, "code", lambda: None)
    entry = samples.config["models"]["encreg"]
    models = {"encreg": {**entry, "network": {**NETWORK, "width": 16}}}
    other = replace(samples, config={**samples.config, "models": models})
    with pytest.raises(ConfigError, match="other settings of network"):
        check_settings(other, "encreg", "3-6")


class Noted:
    """Takes down tasks instead of doing them."""

    def __init__(self):
        self.names = []

    def submit(self, name, *_):
        self.names.append(name)


def test_rows_are_started_once_and_only_with_their_weights(study):
    noted, submitted = Noted(), set()
    submit_rows(study, noted, submitted)
    assert noted.names == [f"{row} of {name}" for name in ("3-6", "6-12") for row in ("ceilings", "hit_angles")]
    weights = study.weights("encreg", "6-12")
    weights.parent.mkdir(parents=True)
    weights.touch()
    submit_rows(study, noted, submitted)
    assert noted.names[4:] == ["encreg of 6-12"]


def test_records_are_plain_values():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan], "c": ["x", "y"]})
    found = record._plain({"rows": frame.to_dict("records"), "inf": math.inf, "t": (1, 2)})
    assert found == {
        "rows": [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": None, "c": "y"}],
        "inf": None,
        "t": [1, 2],
    }
    json.dumps(found, allow_nan=False)


def test_without_floor_there_is_no_table_but_progress(study, tmp_path):
    assert record.study_table(study, ROOT / "config/published_trackformers.csv") is None
    machine = {"device": "cpu", "versions": {"torch": "2"}, "commit": "abc", "code": "d", "machine": {"cpu": "x"}}
    found = record.study_record(study, None, machine)
    text = record.tables_text(study, None, found)
    assert "| encreg | 3-6 | not begun | 0 of 6 | - | - |" in text
    assert "no table" in text
    card = record.fill_card((ROOT / "gpu/model-card.md").read_text(), found, text)
    assert "None is trained yet." in card
    assert "$" not in card
    with pytest.raises(KeyError):
        record.fill_card("$unknown", found, text)
    paths = record.write_out(study, tmp_path / "out", found, {"tables.md": text})
    assert [path.name for path in paths] == ["tables.md", "gpu-train.json"]
    assert json.loads(paths[1].read_text())["progress"][0]["state"] == "not begun"


def test_archives_of_equal_files_are_equal_and_too_large_ones_are_named(samples, tmp_path, monkeypatch):
    train_models(samples, later(), 1, "code", lambda: None)
    paths = record.write_out(samples, tmp_path / "a", {}, {})
    assert [path.name for path in paths] == ["gpu-train.json", "weights-3-6.zip", "weights-6-12.zip"]
    with zipfile.ZipFile(paths[1]) as archive:
        assert archive.namelist() == ["encreg-3-6.pt", "encreg-3-6-history.csv", "encreg-3-6-facts.json"]
        assert archive.read("encreg-3-6.pt") == samples.weights("encreg", "3-6").read_bytes()
    again = record.write_out(samples, tmp_path / "b", {}, {})
    assert [a.read_bytes() for a in paths] == [b.read_bytes() for b in again]
    assert record.too_large(samples, paths) == []
    monkeypatch.setattr(record, "LARGEST_WEIGHTS", 100)
    assert len(record.too_large(samples, paths)) == 2


def test_a_study_knows_its_paths():
    study = Study({"subevents": {"sets": {"10-50": {}}}}, Path("x"))
    assert study.sample("pileup-2") == Path("x/prepared/pileup-2")
    assert study.sample("parents") == Path("x/prepared/parents")
    assert study.sample("10-50") == Path("x/prepared/tracks-10-50")
    assert study.weights("encreg", "10-50") == Path("x/models/encreg/10-50.pt")


def test_what_a_device_refuses_is_named_and_the_rest_measured(monkeypatch):
    def refuse(masks, batches, plan, seed):
        if plan.backends == ("flex",):
            raise RuntimeError("no code for this\nlong trace")
        return [{"mask": name, "backend": plan.backends[0], "good": True} for name in masks]

    monkeypatch.setattr(bench_module, "backend_differences", refuse)
    hits, truth = toy_event(8, 2, seed=3, event_id=3)
    sizes = {"equality_hits": 40, "sizes": (30,), "train_sizes": (30,), "calls": 1, "limit_s": 5.0}
    bench = Bench(Study({"seed": 1}, Path("x"), "cpu"), [(hits, truth)], sizes, later())
    rows = bench.equality(("all pairs", "cone 0.3"))
    assert len(rows) == 4
    assert bench.failures == [f"flex, {name}: RuntimeError: no code for this" for name in ("all pairs", "cone 0.3")]
    found = bench.layers(("all pairs",))
    assert {row["n_hits"] for row in found} == {30, len(bench.sample[0][0])}
    over = Bench(bench.study, bench.events, sizes, later(-1.0))
    assert over.layers(("all pairs",)) == []
    assert over._reason_to_stop(10, []) == "time is over"


def test_latency_stops_before_calls_become_too_long():
    hits, truth = toy_event(8, 2, seed=3, event_id=3)
    bench = Bench(Study({"seed": 1}, Path("x"), "cpu"), [(hits, truth)], {"limit_s": 10.0}, later())
    assert bench._reason_to_stop(1000, []) == ""
    assert bench._reason_to_stop(2000, [{"n_tracks": 1000, "total_ms": 2000.0}]) == ""
    assert bench._reason_to_stop(4000, [{"n_tracks": 1000, "total_ms": 2000.0}]) == "about 32 s per call"
