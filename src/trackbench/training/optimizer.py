"""Optimisers of the training loop: AdamW alone, or Muon for matrices and AdamW for the rest, as one."""

from collections.abc import Mapping

import torch
from torch import nn

from trackbench.training.config import TrainingConfig

MUON_DECAY = 10.0  # Muon's weight decay in units of AdamW's: HEPTv2 trains with 0.1 and 0.01


class Both:
    """Muon and AdamW on different weights of one network, stepped, saved and loaded together."""

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW):
        self.parts = {"muon": muon, "adamw": adamw}

    @property
    def param_groups(self) -> list[dict]:
        """Groups of both; what is set there, such as "lr", holds for the next step."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Change the weights that have a gradient."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict:
        """Return the states of both, tensors and plain values."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping) -> None:
        """Take over what ``state_dict`` gave."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def make_optimizer(
    network: nn.Module, config: TrainingConfig, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer | Both:
    """Return the optimiser ``config.optimizer`` of the trained weights of a network.

    "adamw": AdamW on all of them, which without weight decay is Adam
    "muon": Muon (momentum 0.95, Nesterov, 5 Newton-Schulz steps) on the weights that are matrices, banks of queries
    included, AdamW on all others; both with the same learning rate; the weight decay of Muon is ``MUON_DECAY`` times
    that of AdamW
    betas: of AdamW
    Source: Muon, https://kellerjordan.github.io/posts/muon/; its use here, training of HEPTv2 (arXiv:2606.20437).
    Differs from the latter in: tensors of more than two dimensions, which torch's Muon refuses, are AdamW's.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in weights if p.ndim == 2] if config.optimizer == "muon" else []
    others = [p for p in weights if p.ndim != 2] if matrices else weights
    if not matrices:
        return _adamw(weights, config, betas)
    muon = torch.optim.Muon(matrices, config.learning_rate, weight_decay=MUON_DECAY * config.weight_decay)
    # A network of matrices alone leaves AdamW nothing, which it refuses; a group without weights it takes.
    return Both(muon, _adamw(others or [{"params": []}], config, betas))


def _adamw(weights: list, config: TrainingConfig, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW in one call for all weights: for many small ones that is several times as fast, also on a CPU."""
    return torch.optim.AdamW(weights, config.learning_rate, betas, weight_decay=config.weight_decay, fused=True)
