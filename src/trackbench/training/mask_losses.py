"""Losses of masks and classes of HEPTv2: focal, dice and cross-entropy of queries matched to tracks, at every level.

A hit belongs to one track at most, so the sums over the hits of a track need those hits only; sums over all hits of a
group are shared by all tracks.

Source: HEPTv2 (arXiv:2606.20437); focal loss: Lin et al., arXiv:1708.02002; dice loss: Milletari et al.,
arXiv:1606.04797.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from trackbench.training.hept_config import HeptLossConfig

if TYPE_CHECKING:
    from trackbench.trackers.layers.hept_decoder import Decoded
    from trackbench.training.matching import Match, Tracks

ALPHA = 0.25  # weight of hits of the track in the focal loss, 1 - ALPHA that of the others; its exponent is 2


class _MaskSums(torch.autograd.Function):
    """See ``mask_sums``. Only p and softplus(x) are kept, of which a chain of operations would hold five.

    d/dx p^2 softplus(x) = p^2 (2 (1 - p) softplus(x) + p); d/dx p = p (1 - p).
    """

    @staticmethod
    def forward(ctx, logits: Tensor) -> tuple[Tensor, Tensor]:
        p, soft = logits.sigmoid(), functional.softplus(logits)
        ctx.save_for_backward(p, soft)
        return p.square().mul_(soft).sum(-1).mul_(1 - ALPHA), p.sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, empty: Tensor, total: Tensor) -> Tensor:
        p, soft = ctx.saved_tensors
        q = (1 - p).mul_(p)  # p (1 - p)
        slope = (soft * q).mul_(2).addcmul_(p, p).mul_(p)
        return slope.mul_((1 - ALPHA) * empty[..., None]).addcmul_(q, total[..., None])


def mask_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over all hits of a group. logits: (..., n) float32 or float64.

    Returns the focal loss of a mask whose track had no hit at all, and the sum of the probabilities: (...) each.
    """
    return _MaskSums.apply(logits)


def own_sums(logits: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the hits of the track. logits, there: (..., L), there False = no hit.

    Returns by how much the focal loss grows because these hits belong to the track, and the sum of the probabilities.
    """
    p = logits.sigmoid() * there
    inside = ALPHA * (1 - p).square() * functional.softplus(-logits)
    outside = (1 - ALPHA) * p.square() * functional.softplus(logits)
    return ((inside - outside) * there).sum(-1), p.sum(-1)


def member_sums(logits: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What ``mask_sums`` and ``own_sums`` say of each pair of a mask and a track, every logit looked at once.

    logits: (n, V) of n hits and V masks, the hits of the first track first, those of the second next, those of no track
        last; size: (T,) int64, hits of the tracks
    Returns the two sums over all hits, (V,) each, and the two over the hits of each track, (T, V) each. No gradient.
    """
    p, soft = logits.sigmoid(), functional.softplus(logits)
    outside = p.square().mul_(soft).mul_(1 - ALPHA)
    n = int(size.sum())
    inside = (1 - p[:n]).square_().mul_(soft[:n].sub_(logits[:n])).mul_(ALPHA)  # softplus(-x) = softplus(x) - x
    track = torch.repeat_interleave(torch.arange(len(size), device=size.device), size, output_size=n)
    empty = logits.new_zeros(len(size), logits.shape[1])
    more, own = (empty.index_add(0, track, values) for values in (inside.sub_(outside[:n]), p[:n]))
    return outside.sum(0), p.sum(0), more, own


def dice(own: Tensor, total: Tensor, size: Tensor) -> Tensor:
    """1 - (2 sum p t + 1) / (sum p + sum t + 1).

    own, total: sums of the probabilities over the hits of the track and over all; size: hits of the track
    """
    return 1 - (2 * own + 1) / (total + size + 1)


def decoder_losses(
    decoded: "Decoded", tracks: Sequence["Tracks"], matches: Sequence["Match"], config: HeptLossConfig
) -> dict[str, Tensor]:
    """Weighted terms "class", "focal" and "dice", summed over levels and groups, the mean over the events.

    decoded: G groups; tracks, matches: of each group; the same match holds for every level
    class: cross-entropy, mean over the queries that are valid; focal: mean over the hits, as dice summed over the
    matched pairs and divided by the number of tracks of the group, unmatched ones included
    A group without tracks has focal and dice 0, one without queries all three. In float32, whatever autocast says.
    Overlapping windows are twice as many groups, and so twice the terms.
    """
    n_events = int(decoded.event.max()) + 1
    with torch.autocast(decoded.hits.device.type, enabled=False):
        pairs = [
            _pair_losses(decoded, group, of_group, match)
            for group, (of_group, match) in enumerate(zip(tracks, matches, strict=True))
        ]
        focal, of_dice = torch.stack([torch.stack(pair) for pair in pairs]).sum(0)
        return {
            "class": config.class_weight * _class_loss(decoded, matches) / n_events,
            "focal": config.focal_weight * focal / n_events,
            "dice": config.dice_weight * of_dice / n_events,
        }


def _pair_losses(decoded: "Decoded", group: int, tracks: "Tracks", match: "Match") -> tuple[Tensor, Tensor]:
    """Focal and dice of the matched pairs of one group, all levels at once."""
    hits = decoded.hits[group, : tracks.n_hits].float()
    queries = torch.stack([level.queries[group, match.query] for level in decoded.levels]).float()  # (levels, K, D)
    if not len(match.query):
        nothing = queries.sum() + 0 * hits.sum()
        return nothing, nothing
    logits = queries @ hits.T + decoded.offset.float()
    places, there = tracks.places[match.track], tracks.there[match.track]
    own = logits.gather(2, places.expand(len(queries), -1, -1))
    (empty, total), (more, inside) = mask_sums(logits), own_sums(own, there)
    focal = (empty + more).sum() / tracks.n_hits
    of_dice = dice(inside, total, there.sum(-1)).sum()
    return focal / len(tracks.places), of_dice / len(tracks.places)


def _class_loss(decoded: "Decoded", matches: Sequence["Match"]) -> Tensor:
    """Cross-entropy: class 0 for matched queries, 1 for the others; sum over levels and groups."""
    wanted = torch.ones_like(decoded.valid, dtype=torch.int64)
    for group, match in enumerate(matches):
        wanted[group, match.query] = 0
    n_valid = decoded.valid.sum(1).clamp_min(1)
    loss = decoded.hits.new_zeros((), dtype=torch.float32)
    for level in decoded.levels:
        each = functional.cross_entropy(level.classes.float().mT, wanted, reduction="none")  # (G, M)
        loss = loss + (each.masked_fill(~decoded.valid, 0.0).sum(1) / n_valid).sum()
    return loss
