"""InfoNCE of HEPTv2: hits of the same track attract, the most similar other hits repel.

Source: HEPTv2 (arXiv:2606.20437). Differs from it in: anchors without another hit of their particle, whose loss would
be infinite, are none.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trackbench.training.matching import hits_of

_AT_ONCE = 2**24  # similarities held at once; those of further anchors are computed again for the gradient


def nce_loss(
    embedding: Tensor, particle: Tensor, anchor: Tensor, valid: Tensor, temperature: float, negatives: int
) -> Tensor:
    """Mean over the events of the mean over their tracks of the mean over the anchors of -log(P / (P + N)).

    P = sum of exp(cosine / temperature) over all other hits of the anchor's particle; N the same over the
    ``negatives`` most similar hits of others, noise included, all of them for 0.

    embedding: (B, S, E) of length 1
    particle: (B, S) int64, number of the particle of each hit, -1 = noise
    anchor: (B, S) bool, hits that may be anchors, of particles; valid: (B, S) bool, real hits
    An event without anchors counts as 0. In float32; memory O(S) per anchor of a chunk, not of all.
    """
    loss = embedding[:, :0].float().sum()
    with torch.autocast(embedding.device.type, enabled=False):
        for vectors, number, chosen, real in zip(embedding, particle, anchor, valid, strict=True):
            loss = loss + _event_loss(vectors[real].float(), number[real], chosen[real], temperature, negatives)
    return loss / max(len(embedding), 1)


def _event_loss(embedding: Tensor, particle: Tensor, anchor: Tensor, temperature: float, negatives: int) -> Tensor:
    """Loss of one event of real hits. embedding: (n, E); particle, anchor: (n,)."""
    row = torch.full_like(particle, -1)
    places, there = hits_of(particle)
    row[places[there]] = torch.arange(len(places), device=row.device)[:, None].expand_as(there)[there]
    size = there.sum(1)
    anchors = ((particle >= 0) & anchor & (size[row] > 1 if len(size) else False)).nonzero()[:, 0]
    if not len(anchors):
        return embedding[:0].sum()
    chunks = anchors.split(max(_AT_ONCE // len(embedding), 1))
    losses = []
    for chunk in chunks:
        mates, exist = places[row[chunk]], there[row[chunk]]
        arguments = (embedding, chunk, mates, exist, temperature, negatives)
        if len(chunks) == 1:
            losses.append(_anchor_losses(*arguments))
        else:
            losses.append(checkpoint(_anchor_losses, *arguments, use_reentrant=False, preserve_rng_state=False))
    return _mean_over_tracks(torch.cat(losses), row[anchors], len(places))


def _mean_over_tracks(loss: Tensor, track: Tensor, n_tracks: int) -> Tensor:
    """Mean over tracks of the means over their anchors. loss, track: (A,)."""
    weight = 1 / torch.bincount(track, minlength=n_tracks).clamp_min(1)[track]
    return (loss * weight).sum() / weight.sum()  # the weights of a track add up to 1


def _anchor_losses(
    embedding: Tensor, anchors: Tensor, mates: Tensor, exist: Tensor, temperature: float, negatives: int
) -> Tensor:
    """-log(P / (P + N)) of each anchor, (A,).

    embedding: (n, E); anchors: (A,) int64; mates, exist: (A, L) places of the hits of its particle, itself included
    """
    itself = anchors[:, None]
    similar = embedding[anchors] @ embedding.T / temperature  # (A, n)
    # The lowest number instead of -inf: a row without any other hit would give NaN gradients.
    lowest = torch.finfo(similar.dtype).min / 4
    own = similar.gather(1, mates).masked_fill(~exist | (mates == itself), lowest)
    attraction = own.logsumexp(1)
    if not negatives:
        everyone = similar.scatter(1, itself, lowest)
        return everyone.logsumexp(1) - attraction
    others = similar.scatter(1, torch.where(exist, mates, itself), lowest)
    repulsion = others.topk(min(negatives, len(embedding)), dim=1, sorted=False).values.logsumexp(1)
    return functional.softplus(repulsion - attraction)
