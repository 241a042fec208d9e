"""Losses over the hits of padded events. Every one is a scalar; masked entries have no influence, whatever they hold.

Without any entry to average over, a loss is 0 with a gradient of zeros, so that a batch without tracks is harmless.
"""

import torch
from torch import Tensor
from torch.nn import functional


def regression_loss(prediction: Tensor, target: Tensor, mask: Tensor, kind: str = "mse", beta: float = 0.1) -> Tensor:
    """Mean over the masked hits and their parameters.

    prediction, target: (B, S, k) float; mask: (B, S) bool, True = counts
    kind: "mse", or "smooth_l1": |d| - beta / 2 beyond |d| = beta, d^2 / (2 beta) within
    """
    # Selection comes first: 0 * NaN of a masked target would still poison the gradient.
    difference = prediction[mask].float() - target[mask]
    if not difference.numel():
        return prediction[mask].sum()
    if kind == "mse":
        return difference.square().mean()
    return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=beta)


def classification_loss(logits: Tensor, classes: Tensor, mask: Tensor) -> Tensor:
    """Softmax cross-entropy, mean over the masked hits.

    logits: (B, S, C) float; classes: (B, S) int64, in 0 ... C - 1 where masked; mask: (B, S) bool, True = counts
    """
    chosen = logits[mask].float()
    return functional.cross_entropy(chosen, classes[mask]) if len(chosen) else chosen.sum()


def contrastive_loss(
    embedding: Tensor, particle: Tensor, valid: Tensor, anchor: Tensor, temperature: float = 0.05
) -> Tensor:
    """Supervised InfoNCE among the hits of each event: same particle attracts, all others repel.

    Of each anchor, minus the log of the softmax over all other real hits of its event of cosine / temperature, the
    mean over its positives being taken outside the log (L_out of Khosla et al., NeurIPS 2020, arXiv:2004.11362);
    then the mean over all anchors of the batch.

    embedding: (B, S, D) float, any length: it is normalised here
    particle: (B, S) int64, number of each hit's particle, small as the sums are over 0 ... largest; -1 = noise, which
        is nobody's positive but repels like any other
    valid: (B, S) bool, True = real hit; anchor: (B, S) bool, hits that may be anchors; those without a positive,
        such as the only hit of a particle, are none
    Memory O(B S^2), in float32 whatever the precision of the embedding.
    """
    if not valid.any():
        return embedding[valid].sum()
    with torch.autocast(embedding.device.type, enabled=False):
        unit = functional.normalize(embedding.float().masked_fill(~valid[..., None], 0.0), dim=-1)
        partners, n_partners = _sum_of_partners(unit, torch.where(valid, particle, -1))
        attraction = (unit * partners).sum(-1) / n_partners.clamp_min(1)
        # The lowest number instead of -inf: rows without any other hit would give NaN gradients.
        lowest = torch.finfo(unit.dtype).min / 4
        itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
        excluded = (itself | ~valid[:, None, :]) * lowest  # (B, S, S), row = anchor
        scores = torch.baddbmm(excluded, unit, unit.transpose(1, 2), alpha=1 / temperature)
        loss = torch.logsumexp(scores, -1) - attraction / temperature
    anchor = anchor & valid & (n_partners > 0)
    return loss.masked_fill(~anchor, 0.0).sum() / anchor.sum().clamp_min(1)


def _sum_of_partners(unit: Tensor, particle: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the vectors of each hit's positives (B, S, D), and their number (B, S); 0 for noise.

    By sums over particles, which saves a second pass over all pairs of hits.
    """
    n_particles = int(particle.max()) + 1
    member = functional.one_hot(particle + 1, n_particles + 1)[..., 1:].to(unit.dtype)  # (B, S, P), zeros for noise
    real = (particle >= 0).to(unit.dtype)
    n_partners = (member @ member.sum(1)[..., None])[..., 0] - real
    return member @ (member.transpose(1, 2) @ unit) - real[..., None] * unit, n_partners
