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
    particle: (B, S) int64, particle of each hit, -1 = noise, which is nobody's positive but repels like any other
    valid: (B, S) bool, True = real hit; anchor: (B, S) bool, hits that may be anchors; those without a positive,
        such as the only hit of a particle, are none
    Memory O(B S^2), in float32 whatever the precision of the embedding.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        unit = functional.normalize(embedding.float().masked_fill(~valid[..., None], 0.0), dim=-1)
        similarity = unit @ unit.transpose(1, 2) / temperature  # (B, S, S), row = anchor
    other = valid[:, None, :] & ~torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    positive = (particle[:, :, None] == particle[:, None, :]) & other & (particle >= 0)[:, :, None]
    n_positive = positive.sum(-1)
    anchor = anchor & valid & (n_positive > 0)
    # The lowest number instead of -inf: rows without any other hit would give NaN gradients.
    similarity = similarity.masked_fill(~other, torch.finfo(similarity.dtype).min)
    attraction = similarity.masked_fill(~positive, 0.0).sum(-1) / n_positive.clamp_min(1)
    loss = torch.logsumexp(similarity, -1) - attraction
    return loss.masked_fill(~anchor, 0.0).sum() / anchor.sum().clamp_min(1)
