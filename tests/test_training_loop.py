"""The training loop: resumed bit for bit, stopped by signals and by nonsense, best weights kept."""

import dataclasses
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy_tasks import CONFIG, IDENTITY, ToyTask, toy_train, write_toy_sample

from trackbench.errors import ConfigError, InputError, TrackbenchError
from trackbench.training import sitting
from trackbench.training.checkpoint import HISTORY, PREVIOUS, STATE, RunFolder
from trackbench.training.config import TrainingConfig
from trackbench.training.progress import TIME_COLUMNS, changes
from trackbench.training.schedule import learning_rate
from trackbench.training.stream import EventStream

TESTS = Path(__file__).parent


class Interrupted(Exception):
    """Ends a training in the middle, as a crash would."""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_toy_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def whole(index, tmp_path_factory):
    """The training that nothing interrupts."""
    torch.set_num_threads(1)
    return toy_train(index, tmp_path_factory.mktemp("whole"))


def assert_same(model, other):
    """Same weights bit for bit, same history but for the clock."""
    mine, theirs = model.network.state_dict(), other.network.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    columns = list(TIME_COLUMNS)
    pd.testing.assert_frame_equal(
        model.history.drop(columns=columns), other.history.drop(columns=columns), check_exact=True
    )
    assert (model.steps, model.best_step, model.best_loss) == (other.steps, other.best_step, other.best_loss)


def raise_at(step):
    def on_step(count, terms):
        if count == step:
            raise Interrupted

    return ToyTask(on_step)


# the training itself


def test_history_and_result(whole):
    history = whole.history
    assert history["step"].tolist() == [5, 10, 15, 20, 24]  # also after the last step
    assert history["epoch"].tolist() == sorted(history["epoch"])
    assert history["learning_rate"].tolist() == [learning_rate(step - 1, CONFIG) for step in history["step"]]
    np.testing.assert_allclose(history["train_total"], history["train_count"] + history["train_angle"])
    np.testing.assert_allclose(history["val_total"], history["val_count"] + history["val_angle"])
    assert history["val_total"].iloc[-1] < history["val_total"].iloc[0]
    assert whole.best_loss == history["val_total"].min()
    assert whole.best_step == history["step"][history["val_total"].idxmin()]
    assert (whole.steps, whole.device, whole.parameters) == (24, "cpu", 4 * 8 + 8 + 8 * 2 + 2)
    assert not whole.network.training


def test_validation_loss_is_the_mean_over_all_validation_events(index, whole):
    """By hand: the last row is the best one, so its weights are those returned."""
    assert whole.best_step == 24
    task = ToyTask()
    task.fit(EventStream(index, "train", 4).events())
    events = list(EventStream(index, "val", 4).events())
    assert len(events) == 6  # in batches of 4 and 2
    batch = task.collate(events, None)
    error = (whole.network(batch.x) - batch.y).square().mean(dim=0)
    assert whole.history["val_count"].iloc[-1] == pytest.approx(error[0].item(), rel=1e-5)
    assert whole.history["val_angle"].iloc[-1] == pytest.approx(0.5 * error[1].item(), rel=1e-5)


def test_same_seed_same_result_other_seed_another(index, whole, tmp_path):
    torch.manual_seed(77)  # the state of the caller's generator must not matter
    assert_same(toy_train(index, tmp_path / "a"), whole)
    other = toy_train(index, tmp_path / "b", seed=4)
    assert not torch.equal(other.network[0].weight, whole.network[0].weight)


def test_the_callers_generator_and_algorithms_are_left_alone(index, tmp_path):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    toy_train(index, tmp_path, config=dataclasses.replace(CONFIG, steps=2))
    assert torch.equal(torch.rand(3), wanted)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_how_often_states_are_saved_changes_nothing(index, whole, tmp_path):
    assert_same(toy_train(index, tmp_path, config=dataclasses.replace(CONFIG, checkpoint_every=100)), whole)


# stopped and resumed


@pytest.mark.parametrize("step", [1, 4, 5, 13, 24])
def test_resumed_after_a_crash_at_any_step(index, whole, tmp_path, step):
    task = raise_at(step)
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, task)
    saved = (step - 1) // CONFIG.checkpoint_every * CONFIG.checkpoint_every
    again = ToyTask()
    assert_same(toy_train(index, tmp_path, again), whole)
    assert again.count == CONFIG.steps - saved  # what was saved is not done again
    assert again.fitted == (1 if saved == 0 else 0)


def test_resumed_again_and_again(index, whole, tmp_path):
    rng = np.random.default_rng(8)
    for _ in range(6):
        with pytest.raises(Interrupted):
            toy_train(index, tmp_path, raise_at(int(rng.integers(3, 6))))
    rows = pd.read_csv(tmp_path / HISTORY)
    assert rows["step"].tolist() == [step for step in (5, 10, 15, 20) if step <= rows["step"].max()]
    assert_same(toy_train(index, tmp_path), whole)


def test_a_finished_training_is_not_done_again(index, whole, tmp_path):
    toy_train(index, tmp_path)
    task = ToyTask()
    assert_same(toy_train(index, tmp_path, task), whole)
    assert task.count == 0


def test_the_history_is_written_with_each_state(index, whole, tmp_path):
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, raise_at(20))  # saved at step 18, after the validation of step 15
    written = pd.read_csv(tmp_path / HISTORY).drop(columns=list(TIME_COLUMNS))
    wanted = whole.history.head(3).drop(columns=list(TIME_COLUMNS))
    pd.testing.assert_frame_equal(written, wanted, check_exact=True)


def test_another_configuration_is_refused(index, tmp_path):
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, raise_at(10))
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(ConfigError, match=r"network\.width 8 there, 9 now"):
        toy_train(index, tmp_path, identity={**IDENTITY, "network": {"width": 9}})
    assert (tmp_path / STATE).read_bytes() == before


def test_a_damaged_state_goes_on_from_the_one_before(index, whole, tmp_path, caplog):
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, raise_at(10))  # saved at steps 3, 6 and 9
    content = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(content[: len(content) // 2])
    again = ToyTask()
    assert_same(toy_train(index, tmp_path, again), whole)
    assert again.count == 24 - 6 and again.fitted == 0
    assert "state.pt: damaged training state (" in caplog.text and "saved before it, previous.pt" in caplog.text


def test_a_damaged_state_with_none_before_is_refused(index, tmp_path):
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, raise_at(10))
    for name in (STATE, PREVIOUS):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    left = (tmp_path / STATE).read_bytes()
    with pytest.raises(InputError, match="damaged training state"):
        toy_train(index, tmp_path)
    assert (tmp_path / STATE).read_bytes() == left


def test_a_folder_in_use_is_refused(index, tmp_path):
    with RunFolder(tmp_path, IDENTITY), pytest.raises(InputError, match="another training"):
        toy_train(index, tmp_path)


def test_other_threads_are_warned_of_and_kept(index, whole, tmp_path, caplog):
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, raise_at(10))
    torch.set_num_threads(2)
    try:
        model = toy_train(index, tmp_path)
    finally:
        torch.set_num_threads(1)
    assert "begun with threads 1, now 2: the last bits of the result may differ" in caplog.text
    found = [(one["first_step"], one["last_step"], one["threads"]) for one in model.sittings]
    assert found == [(1, 9, 1), (10, 24, 2)]
    assert all(one["device"] == "cpu" and one["versions"]["torch"] for one in model.sittings)


def test_sittings_with_the_same_are_one(index, whole, tmp_path, caplog):
    for _ in range(2):
        with pytest.raises(Interrupted):
            toy_train(index, tmp_path, raise_at(7))
    model = toy_train(index, tmp_path)
    assert model.sittings == whole.sittings and len(whole.sittings) == 1
    assert "may differ" not in caplog.text


def test_what_is_told_of_two_sittings():
    before = {
        "threads": 1,
        "device": "cpu",
        "machine": {"cpu": "A", "cpus": 2},
        "versions": {"torch": "1", "numpy": "2"},
    }
    now = {**before, "machine": {"cpu": "B", "cpus": 4}, "versions": {"torch": "2", "numpy": "2", "scipy": "1"}}
    assert changes(before, now) == ["cpu A, now B", "torch 1, now 2"]
    assert changes(before, {**before, "machine": {"cpu": "A", "cpus": 9}, "versions": {"scipy": "1"}}) == []


# signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [7, 10])
def test_a_signal_ends_the_step_saves_and_raises(index, whole, tmp_path, number, step):
    task = ToyTask(lambda count, terms: os.kill(os.getpid(), number) if count == step else None)
    message = rf"stopped by {number.name} at step {step} of 24, saved; run again to resume\."
    with pytest.raises(TrackbenchError, match=message):
        toy_train(index, tmp_path, task)
    again = ToyTask()
    assert_same(toy_train(index, tmp_path, again), whole)
    assert again.count == 24 - step


def test_a_signal_during_validation_puts_the_validation_off(index, whole, tmp_path):
    class Validating(ToyTask):
        def losses(self, network, batch, progress=1.0):
            if not network.training and self.count == 10:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().losses(network, batch)

    with pytest.raises(TrackbenchError, match="stopped by SIGTERM at step 10 of 24"):
        toy_train(index, tmp_path, Validating())
    assert pd.read_csv(tmp_path / HISTORY)["step"].tolist() == [5]
    assert_same(toy_train(index, tmp_path), whole)


def test_a_second_signal_is_not_held_back(index, tmp_path, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def twice(count, terms):
        if count == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toy_train(index, tmp_path, ToyTask(twice))


# a loss that is not finite


def test_a_loss_that_is_not_finite_stops_and_names_every_term(index, whole, tmp_path):
    def spoil(count, terms):
        if count == 8:
            terms["angle"] = terms["angle"] * float("nan")

    with pytest.raises(TrackbenchError) as error:
        toy_train(index, tmp_path, ToyTask(spoil))
    text = str(error.value)
    assert "training loss: not finite at step 8 of 24: count 0." in text
    assert ", angle nan, gradient norm nan, learning rate 0.00" in text
    assert_same(toy_train(index, tmp_path), whole)  # the state of step 6 is still good


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(index, tmp_path):
    class Root(ToyTask):
        def losses(self, network, batch, progress=1.0):
            terms = super().losses(network, batch)
            weight = network[0].weight[0, 0]
            return {**terms, "root": torch.sqrt(weight - weight.detach())}  # 0 with an infinite slope

    with pytest.raises(TrackbenchError, match=r"not finite at step 1 of 24: .*root 0, gradient norm (inf|nan)"):
        toy_train(index, tmp_path, Root())


def test_a_validation_loss_that_is_not_finite_stops(index, tmp_path):
    class Bad(ToyTask):
        def losses(self, network, batch, progress=1.0):
            terms = super().losses(network, batch)
            return terms if network.training else {**terms, "count": terms["count"] / 0.0}

    with pytest.raises(TrackbenchError, match="not finite at step 5 of 24: validation count inf"):
        toy_train(index, tmp_path, Bad())


# early stop


class Worsening(ToyTask):
    """Its validation loss falls until ten steps are done and rises from then on."""

    def losses(self, network, batch, progress=1.0):
        terms = super().losses(network, batch)
        return terms if network.training else {"count": terms["count"] * 0 + abs(self.count - 10) + 1.0}


def test_early_stop_keeps_the_best_weights(index, tmp_path):
    config = dataclasses.replace(CONFIG, patience=2)
    stopped = toy_train(index, tmp_path / "a", Worsening(), config)
    assert stopped.history["step"].tolist() == [5, 10, 15, 20]
    assert (stopped.steps, stopped.best_step, stopped.best_loss) == (20, 10, 1.0)
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path / "b", raise_at(11), dataclasses.replace(CONFIG, checkpoint_every=1))
    with RunFolder(tmp_path / "b", IDENTITY) as run:
        wanted = run.load()["network"]
    assert all(torch.equal(value, wanted[name]) for name, value in stopped.network.state_dict().items())


def test_patience_counts_across_a_stop(index, tmp_path):
    config = dataclasses.replace(CONFIG, patience=2)
    task = Worsening(lambda count, terms: os.kill(os.getpid(), signal.SIGTERM) if count == 17 else None)
    with pytest.raises(TrackbenchError, match="SIGTERM at step 17"):
        toy_train(index, tmp_path, task, config)
    again = Worsening()
    again.count = 17
    assert toy_train(index, tmp_path, again, config).history["step"].tolist() == [5, 10, 15, 20]


# schedule and settings


def test_one_cycle_is_that_of_pytorch():
    config = TrainingConfig(steps=50, learning_rate=0.02, schedule="one_cycle")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=50)
    for step in range(50):
        assert learning_rate(step, config) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        if step < 49:
            scheduler.step()


def test_one_cycle_with_its_own_rise():
    config = TrainingConfig(steps=20, learning_rate=1.0, schedule="one_cycle", warmup=5)
    rates = [learning_rate(step, config) for step in range(20)]
    assert rates[0] == pytest.approx(1 / 25) and rates[4] == 1.0 and rates[19] == pytest.approx(1 / 2.5e5)
    assert rates[2] == pytest.approx((1 / 25 + 1) / 2)
    assert learning_rate(0, TrainingConfig(steps=2, learning_rate=1.0, schedule="one_cycle")) == 1.0


def test_constant_and_cosine_by_hand():
    config = TrainingConfig(steps=12, learning_rate=0.8, warmup=4)
    assert [learning_rate(step, config) for step in range(12)] == pytest.approx([0.2, 0.4, 0.6, *[0.8] * 9])
    config = TrainingConfig(steps=12, learning_rate=0.8, schedule="cosine", warmup=4)
    rates = [learning_rate(step, config) for step in range(12)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates[6] == pytest.approx(0.4 * (1 + 0.5**0.5)) and rates[8] == pytest.approx(0.4)
    assert 0 < rates[11] < 0.04


def test_warmup_and_clip_reach_the_optimiser(index, tmp_path):
    """With a clipped norm, no decay and one step, Adam moves every weight by the learning rate or not at all."""
    config = TrainingConfig(steps=1, batch_size=4, learning_rate=0.25, clip=1e-3)
    moved = toy_train(index, tmp_path / "a", config=config).network[0].bias
    still = toy_train(index, tmp_path / "b", config=dataclasses.replace(config, learning_rate=1e-9)).network[0].bias
    change = (moved - still).abs()
    assert ((change - 0.25).abs() < 0.01).sum() >= 4 and (change < 0.26).all()


def test_weight_decay_shrinks_the_weights(index, tmp_path, whole):
    decayed = toy_train(index, tmp_path, config=dataclasses.replace(CONFIG, weight_decay=5.0))
    assert decayed.network[0].weight.norm() < 0.8 * whole.network[0].weight.norm()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, r"training\.steps: value 0, expected >= 1"),
        ({"warmup": 24}, r"training\.warmup: value 24, expected < steps = 24"),
        ({"schedule": "step"}, r"training\.schedule: value 'step'"),
        ({"shard_buffer": 0}, r"training\.shard_buffer: value 0"),
        ({"learning_rate": 0.0}, r"training\.learning_rate: value 0\.0, expected > 0"),
        ({"device": "tpu"}, r"training\.device: value 'tpu'"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_cuda_where_there_is_none_is_said(index, tmp_path):
    with pytest.raises(ConfigError, match=r"training\.device: value 'cuda', and torch finds no CUDA device"):
        toy_train(index, tmp_path, config=dataclasses.replace(CONFIG, device="cuda"))
    automatic = toy_train(index, tmp_path / "auto", config=dataclasses.replace(CONFIG, device="auto"))
    assert automatic.device == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp", [False, True])
def test_on_cuda(index, whole, tmp_path, amp):
    config = dataclasses.replace(CONFIG, device="cuda", amp=amp)
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path, raise_at(10), config)
    trained = toy_train(index, tmp_path, config=config)
    assert trained.device.startswith("cuda (") and trained.network[0].weight.device.type == "cpu"
    assert trained.history["val_total"].iloc[-1] == pytest.approx(whole.history["val_total"].iloc[-1], abs=0.03)


# words and helpers


def test_progress_lines_have_losses_and_time_left(index, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "trackbench")
    monkeypatch.setattr(sitting, "LOG_EVERY_S", 0.0)
    toy_train(index, tmp_path)
    assert len([line for line in caplog.messages if line.startswith("step ")]) == 24
    assert "step 24 of 24, loss " in caplog.text and "0 s left" in caplog.text


def test_times_in_words():
    assert [sitting.duration(s) for s in (0.4, 59.7, 61, 7300)] == ["0 s", "1 min 0 s", "1 min 1 s", "2 h 1 min"]


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_made_ahead_are_the_same(ahead):
    made = []

    def make(step):
        made.append(step)
        return step * step

    batches = sitting.prepared_batches(make, range(3, 7), ahead)
    assert made == []
    assert next(batches) == 9
    assert list(batches) == [16, 25, 36]
    assert made == [3, 4, 5, 6]
    assert list(sitting.prepared_batches(make, range(0), ahead)) == []


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_in_a_batch_reaches_the_loop(ahead):
    def make(step):
        if step == 2:
            raise InputError("shard: damaged.")
        return step

    batches = sitting.prepared_batches(make, range(5), ahead)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(InputError):
        next(batches)
    batches.close()


# processes of their own


def start(index, folder, fault=None):
    """Train in another process; it writes its weights to folder/out.pt."""
    arguments = [index, folder, folder / "out.pt", *([fault] if fault else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    command = [sys.executable, str(TESTS / "toy_tasks.py"), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("fault", ["step:2", "step:17", "write:1", "write:4"])
def test_killed_and_resumed(index, whole, tmp_path, fault):
    with start(index, tmp_path, fault) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, err
    leftovers = list(tmp_path.glob(".tmp-*"))
    assert bool(leftovers) == fault.startswith("write")
    assert_same(toy_train(index, tmp_path), whole)
    assert not list(tmp_path.glob(".tmp-*"))


def wait_for_state(process, folder):
    """Wait until a training has saved its first state, and some steps more."""
    while not (folder / STATE).exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng(int.from_bytes(os.urandom(4))).uniform(0, 0.5)))


@pytest.mark.slow
@pytest.mark.faults
def test_killed_by_another_process_at_random_and_resumed_in_a_third(index, whole, tmp_path):
    with start(index, tmp_path, "slow:0.05") as process:
        wait_for_state(process, tmp_path)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with start(index, tmp_path) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    weights = torch.load(tmp_path / "out.pt", weights_only=True)
    assert all(torch.equal(value, whole.network.state_dict()[name]) for name, value in weights.items())


@pytest.mark.slow
@pytest.mark.faults
def test_asked_to_stop_by_another_process(index, whole, tmp_path):
    with start(index, tmp_path, "slow:0.05") as process:
        wait_for_state(process, tmp_path)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    step = int(re.search(r"stopped by SIGTERM at step (\d+) of 24, saved; run again to resume", err)[1])
    again = ToyTask()
    assert_same(toy_train(index, tmp_path, again), whole)
    assert again.count == 24 - step
