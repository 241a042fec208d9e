"""The network of EncReg, EncCla and their relatives: hits in, per-hit parameters, classes or embeddings out.

Source: EncReg and EncCla of "Trackformers", EPJC 85, 460 (2025), arXiv:2407.07179; the joint model is that of its
second part, arXiv:2509.26411: the classifier sees each hit, its regressed parameters and a few free latents. Differs
from them in: padding is known by the lengths, never by values; the input may be features of helices (``features``).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from trackbench.trackers.layers.batch import Batch
from trackbench.trackers.layers.encoder import Encoder
from trackbench.trackers.layers.features import HitFeatures
from trackbench.trackers.layers.helix_head import HelixHead
from trackbench.trackers.layers.masks import AttentionMask
from trackbench.trackers.layers.network_config import NetworkConfig
from trackbench.trackers.layers.pairs import Pairs, hit_pairs, pair_bias

N_PARAMETERS = 4


class Outputs(NamedTuple):
    """What the network says about each hit; values in the padding have no meaning but are finite.

    latents: (B, S, width), last output of the (first) encoder
    parameters: (B, S, 4): theta [rad], sin phi, cos phi, and charge or scaled q/pT; None without regression head
    logits: (B, S, C), None without classification head
    embedding: (B, S, E) of length 1, None without embedding head
    """

    latents: Tensor
    parameters: Tensor | None
    logits: Tensor | None
    embedding: Tensor | None


class HitNetwork(nn.Module):
    """Features, encoder and the heads that the configuration asks for.

    With ``classifier_layers`` it is the joint model: a second encoder of that many layers sees features of the hit,
    its parameters, through which no gradient flows back, and free latents of the first encoder, through which it does.
    Under autocast only the encoders compute in the lower precision: positions, parameters and angles need more than the
    three digits of bfloat16.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.features = HitFeatures(config.inputs)
        self.input = nn.Linear(self.features.size, config.width)
        self.encoder = Encoder(config, config.layers)
        self.regression: nn.Linear | HelixHead | None = None
        if config.targets != "none":
            helix = config.head == "helix"
            self.regression = HelixHead(config.width) if helix else nn.Linear(config.width, N_PARAMETERS)
        self.classification = nn.Linear(config.width, config.classes) if config.classes else None
        self.embedding = nn.Linear(config.width, config.embedding) if config.embedding else None
        self.classifier: Classifier | None = None
        if config.classifier_layers:
            self.classifier = Classifier(config, self.features.size)

    @property
    def mean(self) -> Tensor:
        """(3,) mean of the training set's positions [mm]."""
        return self.features.mean

    @property
    def scale(self) -> Tensor:
        """(3,) scale of the training set's positions [mm]."""
        return self.features.scale

    def set_normalisation(self, mean: Tensor, scale: Tensor) -> None:
        """Set the constants of the training set: mean, scale (3,) [mm], scale > 0 (else ValueError)."""
        self.features.set_normalisation(mean, scale)

    def forward(self, batch: Batch, backend: str = "auto") -> Outputs:
        """Apply the network to a batch; backend: of ``attention.attention``."""
        mask = AttentionMask.build(self.config.mask_config, batch)
        with full_precision(batch.xyz):
            features = self.features(batch.xyz)
            x = self.input(features)
            pairs = hit_pairs(batch.xyz, self.config.vertex_width) if self.needs_pairs else None
            bias = pair_bias(pairs, self.config.heads) if self.config.pair_bias else None
        latents = self.encoder(x, mask, backend, bias)
        with full_precision(latents):
            found = latents.float()
            parameters = self._regress(found, batch, mask, pairs)
            embedding = None if self.embedding is None else normalize(self.embedding(found), dim=-1)
        if self.classifier is not None:
            hits = torch.cat((features, parameters.detach()), dim=-1)
            found = self.classifier(hits, found, mask, backend, bias)
        with full_precision(latents):
            logits = None if self.classification is None else self.classification(found.float())
        return Outputs(latents, parameters, logits, embedding)

    @property
    def needs_pairs(self) -> bool:
        """True if every pair of hits is looked at, at a memory O(S^2)."""
        return self.config.pair_bias or self.config.head == "helix"

    def _regress(self, found: Tensor, batch: Batch, mask: AttentionMask, pairs: Pairs | None) -> Tensor | None:
        """Outputs of the regression head, (B, S, 4), if there is one."""
        if isinstance(self.regression, HelixHead):
            return self.regression(found, batch.xyz, pairs, mask.dense()[:, 0])
        return None if self.regression is None else self.regression(found)


class Classifier(nn.Module):
    """Second encoder of the joint model. n_features: features of a hit."""

    def __init__(self, config: NetworkConfig, n_features: int):
        super().__init__()
        self.latents = nn.Linear(config.width, config.latents) if config.latents else None
        self.input = nn.Linear(n_features + N_PARAMETERS + config.latents, config.width)
        self.encoder = Encoder(config, config.classifier_layers)

    def forward(
        self, hits: Tensor, found: Tensor, mask: AttentionMask, backend: str, bias: Tensor | None = None
    ) -> Tensor:
        """Encode hits a second time.

        hits: (B, S, n_features + 4), features and parameters; found: (B, S, width), output of the first encoder
        bias: of ``Encoder.forward``
        Returns (B, S, width).
        """
        with full_precision(found):
            x = self.input(hits if self.latents is None else torch.cat((hits, self.latents(found)), dim=-1))
        return self.encoder(x, mask, backend, bias)


def full_precision(like: Tensor) -> torch.autocast:
    """Switch autocast off on the device of a tensor, as a context."""
    return torch.autocast(like.device.type, enabled=False)
