"""Weights files: what is written is read back, and everything that is wrong with a file is said clearly."""

import dataclasses
import zipfile

import numpy as np
import pytest
import torch

from trackbench.errors import InputError
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.network import HitNetwork
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.trackers.layers.weights import KINDS, load_weights, save_weights

SMALL = {"width": 8, "heads": 2, "ffn": 8, "layers": 1}
SETTINGS = {
    "encreg": {"inputs": "helix", "targets": "q_over_pt"},
    "enccla": {"targets": "none", "classes": 6},
    "joint": {"classes": 6, "classifier_layers": 1},
    "contrastive": {"targets": "none", "embedding": 4},
}
HEPT = {"inputs": "geometry", "width": 8, "heads": 2, "ffn": 8, "layers": 1, "position_hidden": 8, "queries": "seeded"}
FACTS = {"label": "demo", "steps": 12, "bins": {"phi": [0.5, 1.0]}, "loss": None}


def network_of(kind="encreg"):
    torch.manual_seed(2)
    if kind == "heptv2":
        from trackbench.trackers.layers.hept_network import HeptNetwork

        return HeptNetwork(HeptConfig(**HEPT))
    if kind == "hept":
        from trackbench.trackers.layers.hept_v1 import HeptV1Network

        return HeptV1Network(HeptV1Config(inputs="geometry", width=8, heads=2, layers=1, output_hidden=8))
    network = HitNetwork(NetworkConfig(**SMALL, **SETTINGS[kind]))
    network.set_normalisation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([90.0, 91.0, 400.0]))
    return network


@pytest.fixture
def path(tmp_path):
    save_weights(tmp_path / "model.pt", "encreg", network_of(), FACTS)
    return tmp_path / "model.pt"


def change(path, **parts):
    """Rewrite a weights file with some parts of its content replaced."""
    content = torch.load(path, weights_only=True)
    for name, value in parts.items():
        content[name] = value(content[name]) if callable(value) else value
    torch.save(content, path)


def refusal(path, kinds=KINDS):
    """The message about a file; the file is left as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as error:
        load_weights(path, kinds)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert (path.read_bytes() if path.is_file() else None) == before
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind, tmp_path):
    network = network_of(kind)
    save_weights(tmp_path / "sub" / "model.pt", kind, network, FACTS)
    found, facts = load_weights(tmp_path / "sub" / "model.pt", (kind,))
    assert facts == {**FACTS, "kind": kind}
    assert found.config == network.config
    assert not found.training
    state = network.state_dict()
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    assert [file.name for file in (tmp_path / "sub").iterdir()] == ["model.pt"]


def test_equal_weights_equal_bytes(path, tmp_path):
    save_weights(tmp_path / "another name.pt", "encreg", network_of(), FACTS)
    assert (tmp_path / "another name.pt").read_bytes() == path.read_bytes()


def test_wrong_use_is_refused_and_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="kind 'encdec' does not fit"):
        save_weights(path, "encdec", network_of(), {})
    with pytest.raises(ValueError, match="kind 'enccla' does not fit"):
        save_weights(path, "enccla", network_of("encreg"), {})
    with pytest.raises(ValueError, match="kind 'encreg' does not fit HeptConfig"):
        save_weights(path, "encreg", network_of("heptv2"), {})
    with pytest.raises(ValueError, match="kind 'heptv2' does not fit NetworkConfig"):
        save_weights(path, "heptv2", network_of(), {})
    with pytest.raises(ValueError, match="kind 'hept' does not fit HeptConfig"):
        save_weights(path, "hept", network_of("heptv2"), {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_weights(path, "encreg", network_of(), {"mean": np.zeros(3)})
    assert path.read_bytes() == before


def test_missing_file(tmp_path):
    assert "no such file, expected trained weights" in refusal(tmp_path / "none.pt")
    assert "is a folder, expected trained weights" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged, cut short or no weights file; train again or copy the file again" in refusal(path)


def test_one_flipped_bit_of_a_tensor(path):
    tensor = network_of().state_dict()["input.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(tensor) + 17] ^= 4
    path.write_bytes(content)
    assert "damaged (wrong checksum of archive/data/" in refusal(path)


def test_random_damage_never_passes_unnoticed(path):
    """Overwrite 40 bytes somewhere: an error, or the same weights (unused bytes of the archive)."""
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    state = network_of().state_dict()
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        start = int(rng.integers(len(whole) - 40))
        content[start : start + 40] = rng.bytes(40)
        path.write_bytes(content)
        try:
            network, facts = load_weights(path)
        except InputError:
            refused += 1
        else:
            assert facts == {**FACTS, "kind": "encreg"}
            assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert refused > 100


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        [1, 2, 3],
        {"format": "trackbench weights", "version": 1},
        torch.zeros(3),
        {"format": "other", "version": 1, "kind": "encreg", "network": {}, "state": {}, "facts": {}},
        {"format": "trackbench weights", "version": 1, "kind": "encreg", "network": [], "state": {}, "facts": {}},
    ],
)
def test_another_file_of_torch(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    assert "not a weights file of trackbench, expected a file written by its training" in refusal(tmp_path / "other.pt")


def test_a_file_that_would_run_code(tmp_path):
    torch.save(network_of(), tmp_path / "whole.pt")  # a pickled module, not plain values
    assert "not a weights file of trackbench" in refusal(tmp_path / "whole.pt")


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "events.zip", "w") as archive:
        archive.writestr("events.csv", "a,b\n")
    assert "not a weights file of trackbench" in refusal(tmp_path / "events.zip")


def test_another_version(path):
    change(path, version=2)
    assert "version 2 of the format, expected 1" in refusal(path)


def test_another_kind(path):
    assert "weights of kind 'encreg', expected 'enccla' or 'joint'" in refusal(path, ("enccla", "joint"))
    change(path, kind="enccla")
    assert "network without the outputs of kind 'enccla'" in refusal(path)
    change(path, kind="encdec")
    assert "weights of kind 'encdec', expected 'encreg' or" in refusal(path)


def test_unknown_network_settings(path):
    change(path, network=lambda values: {**values, "experts": 4, "gates": 1})
    assert "unknown network settings experts, gates" in refusal(path)


def test_wrong_network_settings(path):
    change(path, network=lambda values: {**values, "layers": "many"})
    assert "network setting layers is 'many', expected int" in refusal(path)
    change(path, network=lambda values: {**values, "layers": 0})
    assert "network.layers: value 0, expected >= 1" in refusal(path)


def test_settings_added_later_have_their_default(path):
    change(path, network=lambda values: {name: value for name, value in values.items() if name != "mask_window"})
    assert load_weights(path)[0].config == network_of().config


def test_integers_for_numbers(path, tmp_path):
    network = HitNetwork(NetworkConfig(**SMALL, dropout=0))
    save_weights(path, "encreg", network, {})
    assert load_weights(path)[0].config == network.config


def test_state_that_does_not_fit(path):
    change(path, network=lambda values: {**values, "layers": 2})
    assert "12 missing tensors: encoder.layers.1.attention.qkv.weight," in refusal(path)
    change(path, network=lambda values: {**values, "layers": 1, "inputs": "xyz"})
    assert "1 unexpected tensors: features.grid" in refusal(path)
    change(path, network=lambda values: {**values, "inputs": "helix", "ffn": 9})
    message = "tensor encoder.layers.0.feed_forward.0.weight has shape (8, 8), expected (9, 8)"
    assert message in refusal(path)


def test_weights_that_are_not_finite(path):
    change(path, state=lambda state: {**state, "input.bias": torch.full((8,), torch.nan)})
    assert "tensor input.bias is not finite" in refusal(path)


def test_config_as_dict_holds_plain_values_only():
    assert all(type(value) in (int, float, str, bool) for value in dataclasses.asdict(NetworkConfig()).values())
