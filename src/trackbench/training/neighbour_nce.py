"""InfoNCE of HEPT: hits of a target track attract each other, neighbours in (eta, phi) repel.

Source: HEPT (arXiv:2402.12535, github.com/Graph-COM/HEPT). Differs from it in: the neighbours of a hit are the nearest
ones, across phi = pi too; the source takes whichever 256 its search returns, and those of the other hits of the
particle as well.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-12  # added to squared distances, whose root has no gradient at 0


class Pairs(NamedTuple):
    """Pairs of one event, places in it; -1 fills rows up.

    anchor: (A,) int64, target hits with another hit of their particle
    mates: (A, L) int64, the other hits of that particle
    others: (A, K) int64, hits in the neighbourhood that are not of it, noise included
    """

    anchor: np.ndarray
    mates: np.ndarray
    others: np.ndarray


def find_pairs(angles: np.ndarray, particle: np.ndarray, target: np.ndarray, radius: float, neighbours: int) -> Pairs:
    """Choose the pairs of one event.

    angles: (n, 2), eta and phi [rad]; particle: (n,) int64, -1 = noise; target: (n,) bool, hits of target tracks
    radius: of the neighbourhood in (eta, phi), phi around the circle; neighbours: the nearest so many, hits of the
        particle among them
    Cost O(A neighbours log n), memory O(A neighbours).
    """
    size = np.bincount(particle[particle >= 0], minlength=1)
    anchor = np.flatnonzero(target & (particle >= 0) & (size[particle] > 1))
    order = np.argsort(particle, kind="stable")
    begin = np.searchsorted(particle[order], particle[anchor])
    step = np.arange(size[particle[anchor]].max(initial=0))
    places = order[np.minimum(begin[:, None] + step, max(len(order) - 1, 0))]
    mates = np.where((step < size[particle[anchor]][:, None]) & (places != anchor[:, None]), places, -1)
    found = _nearest(angles, anchor, radius, neighbours)
    others = np.where((found >= 0) & (particle[found] != particle[anchor][:, None]), found, -1)
    return Pairs(anchor, mates, others)


def _nearest(angles: np.ndarray, anchor: np.ndarray, radius: float, neighbours: int) -> np.ndarray:
    """The nearest hits of each anchor within ``radius``, itself not among them, -1 = no more: (A, K) int64."""
    from scipy.spatial import cKDTree

    turn = 2 * np.pi
    points = np.column_stack((angles[:, 0], np.mod(angles[:, 1], turn)))
    points[points[:, 1] >= turn, 1] = 0.0  # a remainder may be rounded up to the whole turn
    count = min(neighbours + 1, len(points))
    tree = cKDTree(points, boxsize=[0.0, turn])  # 0: not periodic
    # The search looks for less than its bound.
    places = tree.query(points[anchor], k=np.arange(1, count + 1), distance_upper_bound=np.nextafter(radius, np.inf))[1]
    places = places.reshape(len(anchor), count)
    itself = places == anchor[:, None]
    itself[~itself.any(axis=1), -1] = True  # crowded out by as many hits at the same point
    places = places[~itself].reshape(len(anchor), count - 1)
    return np.where(places < len(points), places, -1)


def pair_nce_loss(points: Tensor, pairs: tuple[Tensor, Tensor, Tensor], sigma: float, temperature: float) -> Tensor:
    """Mean over the events of the mean over their particles of the mean over pairs (anchor, mate) of
    -log(e^(s/t) / (e^(s/t) + N)), with s = exp(-d / (2 sigma^2)), t the temperature and N the sum of e^(s/t) over the
    neighbours of the anchor that are of others.

    points: (B, S, E); pairs: anchor (B, A), mates (B, A, L) and others (B, A, K) of ``Pairs``, -1 fills up
    An event without anchors counts as 0. In float32.
    """
    with torch.autocast(points.device.type, enabled=False):
        loss = points[:, :0].float().sum()
        for vectors, anchor, mates, others in zip(points.float(), *pairs, strict=True):
            loss = loss + _event_loss(vectors, anchor, mates, others, (2 * sigma**2, temperature))
    return loss / max(len(points), 1)


def _event_loss(points: Tensor, anchor: Tensor, mates: Tensor, others: Tensor, scales: tuple[float, float]) -> Tensor:
    """Loss of one event. points: (S, E); anchor: (A,); mates: (A, L); others: (A, K); scales: 2 sigma^2 and t."""
    real = anchor >= 0
    anchor, mates, others = anchor[real], mates[real], others[real]
    if not len(anchor):
        return points[:0].sum()
    attraction = _logits(points, anchor, mates, scales)
    # The lowest number instead of -inf: an anchor without neighbours would give NaN gradients.
    lowest = torch.finfo(points.dtype).min / 4
    repulsion = _logits(points, anchor, others, scales).masked_fill(others < 0, lowest)
    repulsion = torch.cat((repulsion, repulsion.new_full((len(anchor), 1), lowest)), 1).logsumexp(1)
    each = functional.softplus(repulsion[:, None] - attraction).masked_fill(mates < 0, 0.0).sum(1)
    n_mates = (mates >= 0).sum(1)
    # A particle of n hits is n anchors with n - 1 mates each.
    return (each / (n_mates * (n_mates + 1))).sum() / (1 / (n_mates + 1)).sum()


def _logits(points: Tensor, anchor: Tensor, partners: Tensor, scales: tuple[float, float]) -> Tensor:
    """Similarity over temperature of anchors and partners, (A, L); that of place 0 where there is none."""
    chosen = points.index_select(0, partners.clamp_min(0).flatten()).view(*partners.shape, -1)
    distance = ((points.index_select(0, anchor)[:, None] - chosen).square().sum(-1) + _TINY).sqrt()
    return (-distance / scales[0]).exp() / scales[1]
