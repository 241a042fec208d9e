"""Optimisers: which weights get which, steps against the formulas, and resuming bit for bit."""

import dataclasses
import io
import math

import pytest

torch = pytest.importorskip("torch")

from toy_tasks import CONFIG, ToyTask, toy_train, write_toy_sample  # noqa: E402

from trackbench.errors import ConfigError  # noqa: E402
from trackbench.training.config import TrainingConfig  # noqa: E402
from trackbench.training.optimizer import Both, make_optimizer  # noqa: E402
from trackbench.training.schedule import learning_rate  # noqa: E402

MUON = TrainingConfig(optimizer="muon", learning_rate=0.02, weight_decay=0.01)


def network(seed=0):
    torch.manual_seed(seed)
    made = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    made.register_parameter("bank", torch.nn.Parameter(torch.randn(5, 3)))
    made.register_parameter("cube", torch.nn.Parameter(torch.randn(2, 3, 3)))
    made.register_parameter("frozen", torch.nn.Parameter(torch.randn(3, 3), requires_grad=False))
    return made


def loss_of(made, step=0):
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(step))
    return ((made(x) @ made.cube).sum(0) @ made.bank.T).square().mean()


def names(made, optimizer):
    """Names of the weights an optimiser changes."""
    weights = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name for name, p in made.named_parameters() if id(p) in weights}


def train(made, optimizer, steps):
    for step in steps:
        optimizer.zero_grad(set_to_none=True)
        loss_of(made, step).backward()
        optimizer.step()


def test_who_gets_what():
    made = network()
    both = make_optimizer(made, MUON, (0.9, 0.95))
    assert names(made, both.parts["muon"]) == {"0.weight", "2.weight", "bank"}
    assert names(made, both.parts["adamw"]) == {"0.bias", "2.bias", "cube"}
    muon, adamw = (both.parts[name].param_groups[0] for name in ("muon", "adamw"))
    assert (muon["weight_decay"], muon["momentum"], muon["nesterov"], muon["ns_steps"]) == (0.1, 0.95, True, 5)
    assert (adamw["weight_decay"], adamw["betas"], muon["lr"], adamw["lr"]) == (0.01, (0.9, 0.95), 0.02, 0.02)
    plain = make_optimizer(made, dataclasses.replace(MUON, optimizer="adamw"))
    assert isinstance(plain, torch.optim.AdamW) and plain.param_groups[0]["betas"] == (0.9, 0.999)
    assert names(made, plain) == {name for name, _ in made.named_parameters()} - {"frozen"}


def test_networks_of_one_sort_only():
    flat = torch.nn.Linear(3, 3, bias=False)
    made = make_optimizer(flat, MUON)
    before = flat.weight.clone()
    flat(torch.ones(2, 3)).sum().backward()
    made.step()
    assert isinstance(made, Both) and not torch.equal(flat.weight, before)
    assert isinstance(make_optimizer(torch.nn.LayerNorm(4), MUON), torch.optim.AdamW)


def test_a_step_is_that_of_both_methods():
    """AdamW by the formula; Muon: the update is nearly orthogonal, after the decay."""
    made = network()
    both = make_optimizer(made, MUON, (0.9, 0.95))
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    train(made, both, range(1))
    bias, gradient = before["2.bias"], made[2].bias.grad
    torch.testing.assert_close(
        made[2].bias.detach(), bias * (1 - 0.02 * 0.01) - 0.02 * gradient.sign(), atol=1e-6, rtol=0
    )
    update = (before["0.weight"] * (1 - 0.02 * 0.1) - made[0].weight.detach()) / (0.02 * (6 / 4) ** 0.5)
    sizes = torch.linalg.svdvals(update)
    assert (sizes > 0.5).all() and (sizes < 1.5).all()
    torch.testing.assert_close(made.frozen.detach(), before["frozen"])


def test_the_rate_that_is_set_is_used():
    made = network()
    both = make_optimizer(made, MUON)
    before = [p.detach().clone() for p in made.parameters()]
    for group in both.param_groups:
        group["lr"] = 0.0
    train(made, both, range(3))
    assert all(torch.equal(p, old) for p, old in zip(made.parameters(), before, strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(optimizer):
    config = dataclasses.replace(MUON, optimizer=optimizer)
    whole, first = network(), network()
    train(whole, make_optimizer(whole, config), range(6))
    begun = make_optimizer(first, config)
    train(first, begun, range(3))
    file = io.BytesIO()
    torch.save({"network": first.state_dict(), "optimizer": begun.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = network(seed=9)
    second.load_state_dict(state["network"])
    resumed = make_optimizer(second, config)
    resumed.load_state_dict(state["optimizer"])
    train(second, resumed, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), second.parameters(), strict=True))


class Interrupted(Exception):
    """Ends a training in the middle, as a crash would."""


def test_a_training_with_muon_is_resumed_bit_for_bit(tmp_path):
    def crash(count, terms):
        if count == 14:
            raise Interrupted

    torch.set_num_threads(1)
    index = write_toy_sample(tmp_path / "sample")
    config = dataclasses.replace(CONFIG, optimizer="muon", weight_decay=0.01)
    whole = toy_train(index, tmp_path / "whole", config=config)
    with pytest.raises(Interrupted):
        toy_train(index, tmp_path / "broken", ToyTask(crash), config)
    task = ToyTask()
    again = toy_train(index, tmp_path / "broken", task, config)
    assert task.count == 24 - 12  # saved after step 12
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    adamw = toy_train(index, tmp_path / "adamw", config=dataclasses.replace(config, optimizer="adamw"))
    assert not torch.equal(adamw.network[0].weight, whole.network[0].weight)


def test_cosine_to_a_share_of_the_peak():
    config = TrainingConfig(steps=101, learning_rate=2.0, schedule="cosine", warmup=1, final_rate=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == rates[1] == 2.0 and rates == sorted(rates, reverse=True)
    assert rates[51] == pytest.approx((2.0 + 0.2) / 2)
    assert rates[-1] == pytest.approx(0.2, rel=0.01)


def test_schedule_of_heptv2_from_scratch():
    """Warm-up for 5 epochs, peak up to epoch 100, cosine to a tenth at 200, as low until 250; here 4 steps an epoch."""
    config = TrainingConfig(
        steps=1000, learning_rate=3.0, schedule="cosine", warmup=20, hold=380, tail=200, final_rate=0.1
    )
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[:20] == pytest.approx([3.0 * (step + 1) / 20 for step in range(20)])
    assert rates[20:401] == [3.0] * 381
    falling = [0.3 + 2.7 * (1 + math.cos(math.pi * (step - 400) / 400)) / 2 for step in range(400, 800)]
    assert rates[400:800] == pytest.approx(falling) and rates[600] == pytest.approx(1.65)
    assert rates[800:] == pytest.approx([0.3] * 200)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold": -1}, r"training\.hold: value -1, expected >= 0"),
        ({"hold": 3}, r"training\.hold \+ tail: value 3, expected 0 unless schedule is cosine"),
        (
            {"schedule": "cosine", "steps": 10, "warmup": 2, "hold": 4, "tail": 4},
            r"training\.warmup \+ hold \+ tail: value 10, expected < steps = 10",
        ),
    ],
)
def test_a_schedule_needs_steps_in_which_it_falls(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)


def test_wrong_settings():
    with pytest.raises(ConfigError, match=r"training\.optimizer: value 'sgd', expected adamw or muon"):
        TrainingConfig(optimizer="sgd")
    with pytest.raises(ConfigError, match=r"training\.final_rate: value 1\.5, expected in \[0, 1\]"):
        TrainingConfig(final_rate=1.5)
