"""Weights files of learned trackers: a network, its settings and where it comes from, in one file.

The file is a torch archive of plain values and tensors, read with ``weights_only=True``: it cannot run code. Equal
weights and facts give equal bytes.
"""

import dataclasses
import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import atomic_path
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.network import HitNetwork
from trackbench.trackers.layers.network_config import NetworkConfig

FORMAT = "trackbench weights"
VERSION = 1
KINDS = ("encreg", "enccla", "joint", "contrastive", "heptv2", "hept")
Settings = NetworkConfig | HeptConfig | HeptV1Config
_OWN_SETTINGS = {"heptv2": HeptConfig, "hept": HeptV1Config}  # the other kinds have ``NetworkConfig``
_KEYS = {"format", "version", "kind", "network", "state", "facts"}
_REMEDY = "train again or copy the file again"
_SHOWN = 3  # names listed in a message about many


def save_weights(path: str | os.PathLike, kind: str, network: nn.Module, facts: Mapping) -> None:
    """Write a network, atomically.

    kind: of ``KINDS``; network: ``HitNetwork`` or, for "heptv2", ``HeptNetwork``, for "hept", ``HeptV1Network``
    facts: where the weights come from, as plain values (JSON): data set, steps, label, ...
    Raises ValueError for an unknown kind or a network that does not fit it, TypeError for facts that are not plain.
    """
    if kind not in KINDS or not _has_heads(kind, network.config):
        raise ValueError(f"kind {kind!r} does not fit {network.config}")
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "network": dataclasses.asdict(network.config),
        "state": state,
        "facts": json.loads(json.dumps(dict(facts))),
    }
    # Into memory first: an archive holds the name of the file it was written to, which would change its bytes.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_weights(path: str | os.PathLike, kinds: Sequence[str] = KINDS) -> tuple[nn.Module, dict]:
    """Read a network, on the CPU and in evaluation mode.

    kinds: what the caller can use, of ``KINDS``
    Returns the network, see ``save_weights``, and its facts, with ``kind`` among them.
    Raises InputError if there is no such file, it is damaged, no weights file, of another kind or version, has network
    settings this version does not know, or tensors that do not fit the settings or are not finite.
    """
    content = _read(Path(path))
    if content["version"] != VERSION:
        raise InputError(describe(path, f"version {content['version']!r} of the format", f"{VERSION}", "train again"))
    kind = content["kind"]
    if kind not in kinds:
        raise InputError(describe(path, f"weights of kind {kind!r}", " or ".join(repr(name) for name in kinds)))
    config_class, network_class = _classes(kind)
    config = _network_config(path, config_class, content["network"])
    if not _has_heads(kind, config):
        raise InputError(describe(path, f"network without the outputs of kind {kind!r}", "", _REMEDY))
    network = network_class(config)
    _check_state(path, network.state_dict(), content["state"])
    network.load_state_dict(content["state"], strict=True)
    return network.eval(), {**content["facts"], "kind": kind}


def _classes(kind: str) -> tuple[type, type[nn.Module]]:
    """Class of the settings and of the network of a kind."""
    if kind == "heptv2":
        from trackbench.trackers.layers.hept_network import HeptNetwork

        return HeptConfig, HeptNetwork
    if kind == "hept":
        from trackbench.trackers.layers.hept_v1 import HeptV1Network

        return HeptV1Config, HeptV1Network
    return NetworkConfig, HitNetwork


def _has_heads(kind: str, config: Settings) -> bool:
    if not isinstance(config, _OWN_SETTINGS.get(kind, NetworkConfig)):
        return False
    if kind in _OWN_SETTINGS:
        return True
    return {
        "encreg": config.targets != "none",
        "enccla": config.classes > 0 and not config.classifier_layers,
        "joint": config.classifier_layers > 0,
        "contrastive": config.embedding > 0,
    }[kind]


def _read(path: Path) -> dict:
    """The content of a weights file, its parts of the right types."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(describe(path, what, "trained weights"))
    foreign = describe(path, "not a weights file of trackbench", "a file written by its training")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a damaged archive makes zipfile raise nearly anything
        message = describe(path, "cannot be read: damaged, cut short or no weights file", "", _REMEDY)
        raise InputError(message) from error
    if damaged is not None:
        raise InputError(describe(path, f"damaged (wrong checksum of {damaged})", "", _REMEDY))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(foreign) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != _KEYS:
        raise InputError(foreign)
    if not all(isinstance(content[name], dict) for name in ("network", "state", "facts")):
        raise InputError(foreign)
    return content


def _network_config(path: str | os.PathLike, config_class: type, values: Mapping) -> Settings:
    """Settings of the network; a setting that the file does not know yet has its default."""
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        what = f"unknown network settings {_some(unknown)}"
        raise InputError(describe(path, what, "those of this version", "train again or use the version that wrote it"))
    for name, value in values.items():
        kind = type(fields[name].default)
        if type(value) is not kind and (kind, type(value)) != (float, int):
            raise InputError(describe(path, f"network setting {name} is {value!r}", kind.__name__))
    try:
        return config_class(**values)
    except ConfigError as error:
        raise InputError(f"{path}: {error}") from error


def _check_state(path: str | os.PathLike, expected: Mapping, state: Mapping) -> None:
    """Raise InputError unless the tensors have the names and shapes of the network and are finite."""
    for what, names in (
        ("missing", [name for name in expected if name not in state]),
        ("unexpected", [name for name in state if name not in expected]),
    ):
        if names:
            raise InputError(describe(path, f"{len(names)} {what} tensors: {_some(names)}", "", _REMEDY))
    for name, tensor in expected.items():
        found = state[name]
        if not isinstance(found, torch.Tensor) or found.shape != tensor.shape:
            shape = tuple(getattr(found, "shape", ()))
            raise InputError(describe(path, f"tensor {name} has shape {shape}", f"{tuple(tensor.shape)}", _REMEDY))
        if not torch.isfinite(found).all():
            raise InputError(describe(path, f"tensor {name} is not finite", "finite weights", "train again"))


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(str(name) for name in names[:_SHOWN]) + rest
