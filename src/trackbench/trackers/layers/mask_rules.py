"""What each kind of attention mask compares, how, and in which order of hits its pairs lie in few blocks.

Everything the rules compare is made integer or boolean once per batch, so that no backend can round a pair to the
other side: a fused kernel may contract a multiplication and an addition, a dense mask does not. Positions in eta and
azimuth are rounded to 2 pi / 2^24 for this.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trackbench.errors import InputError, describe
from trackbench.trackers.layers.batch import Batch
from trackbench.trackers.layers.network_config import MaskConfig

# What a rule compares: name -> (B, S) or, of sector members, (B, sectors, S); 0 or False in the padding.
Fields = dict[str, Tensor]
# Function of event, head, query and key, integer tensors that broadcast; True = attends (mask_mod of FlexAttention).
Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

_TURN = 2**24  # azimuth units per turn
_UNIT = 2 * math.pi / _TURN  # [rad]
_ETA_MAX = 20.0  # of hits on the beam line


@dataclass(frozen=True)
class Kind:
    """One kind of mask.

    fields: what the rule compares besides ``valid``; rule: on such fields and ``valid``
    sort_key: (B, S) int64 from the fields, see ``AttentionMask.order``
    partition: all hits of a group of queries attend to the same keys
    """

    fields: Callable[[MaskConfig, Batch], Fields]
    rule: Callable[..., Rule]
    sort_key: Callable[..., Tensor]
    partition: bool


def _group_of_event(config: MaskConfig, batch: Batch) -> Fields:
    return {"group": torch.zeros_like(batch.valid, dtype=torch.int64)}


def _group_of_cluster(config: MaskConfig, batch: Batch) -> Fields:
    """Clusters numbered 0, 1, ... in each event; a hit in none becomes a group of its own."""
    if batch.clusters is None:
        raise InputError(describe("cluster mask", "the batch has no clusters", "collate(events, clusters)"))
    labels, group = batch.clusters, torch.zeros_like(batch.clusters)
    for event, valid in enumerate(batch.valid):
        _, number = torch.unique(labels[event][valid], return_inverse=True)
        lonely = labels[event][valid] < 0
        number[lonely] = len(number) + torch.arange(int(lonely.sum()), device=number.device)
        group[event, valid] = torch.unique(number, return_inverse=True)[1]
    return {"group": group}


def _azimuth(batch: Batch) -> Tensor:
    """(B, S) float64 in [-pi, pi]."""
    xyz = batch.xyz.double()
    return torch.atan2(xyz[..., 1], xyz[..., 0])


def _azimuth_units(batch: Batch) -> Tensor:
    """(B, S) int64 in 0.._TURN - 1."""
    return torch.remainder((_azimuth(batch) / _UNIT).round().long(), _TURN)


def _angles(config: MaskConfig, batch: Batch) -> Fields:
    xyz = batch.xyz.double()
    r = torch.hypot(xyz[..., 0], xyz[..., 1]).clamp(min=1e-30)
    eta = torch.asinh(xyz[..., 2] / r).clamp(-_ETA_MAX, _ETA_MAX)
    return {"eta": (eta / _UNIT).round().long(), "phi": _azimuth_units(batch)}


def _azimuth_rank(config: MaskConfig, batch: Batch) -> Fields:
    """Place of each hit in its event by azimuth, hits of equal azimuth by place, and the number of hits."""
    phi = torch.where(batch.valid, _azimuth(batch), torch.inf)
    rank = torch.argsort(torch.argsort(phi, dim=1, stable=True), dim=1)
    return {"rank": rank, "length": batch.lengths[:, None].expand_as(rank).contiguous()}


def _sector_members(config: MaskConfig, batch: Batch) -> Fields:
    """Sector of each hit as in ``data.sectors``, and the hits of each sector with its overlap."""
    phi, width = _azimuth(batch), 2 * math.pi / config.sectors
    sector = ((phi + math.pi) / width).long().clamp(0, config.sectors - 1)
    number = torch.arange(config.sectors, device=phi.device)[:, None]  # (n, 1)
    offset = phi[:, None] - ((number + 0.5) * width - math.pi)  # (B, n, S)
    distance = (torch.remainder(offset + math.pi, 2 * math.pi) - math.pi).abs()
    members = (distance < width / 2 + config.overlap) | (sector[:, None] == number)
    return {"group": sector, "members": members & batch.valid[:, None], "phi": _azimuth_units(batch)}


def _same_group(config: MaskConfig, valid: Tensor, group: Tensor) -> Rule:
    def rule(b, h, q, k):
        return valid[b, q] & valid[b, k] & (group[b, q] == group[b, k])

    return rule


def _in_cone(config: MaskConfig, valid: Tensor, eta: Tensor, phi: Tensor) -> Rule:
    limit = math.ceil((config.radius / _UNIT) ** 2)

    def rule(b, h, q, k):
        d_eta = eta[b, q] - eta[b, k]
        d_phi = (phi[b, q] - phi[b, k]).abs()
        d_phi = torch.minimum(d_phi, _TURN - d_phi)
        return valid[b, q] & valid[b, k] & (d_eta * d_eta + d_phi * d_phi < limit)

    return rule


def _in_window(config: MaskConfig, valid: Tensor, rank: Tensor, length: Tensor) -> Rule:
    window = config.window

    def rule(b, h, q, k):
        distance = (rank[b, q] - rank[b, k]).abs()
        distance = torch.minimum(distance, length[b, q] - distance)
        return valid[b, q] & valid[b, k] & (distance <= window)

    return rule


def _in_sector(config: MaskConfig, valid: Tensor, group: Tensor, members: Tensor, phi: Tensor) -> Rule:
    def rule(b, h, q, k):
        return valid[b, q] & members[b, group[b, q], k]

    return rule


def _by_group(config: MaskConfig, group: Tensor) -> Tensor:
    return group


def _by_azimuth(config: MaskConfig, phi: Tensor, **fields: Tensor) -> Tensor:
    return phi


def _by_rank(config: MaskConfig, rank: Tensor, length: Tensor) -> Tensor:
    return rank


def _by_strip(config: MaskConfig, eta: Tensor, phi: Tensor) -> Tensor:
    """Strips of azimuth as wide as the radius, up and down in eta so that neighbours stay near."""
    strip = phi // max(math.ceil(config.radius / _UNIT), 1)
    return strip * 2**32 + torch.where(strip % 2 == 0, eta, -eta)


KINDS = {
    "padding": Kind(_group_of_event, _same_group, _by_group, partition=True),
    "cluster": Kind(_group_of_cluster, _same_group, _by_group, partition=True),
    "cone": Kind(_angles, _in_cone, _by_strip, partition=False),
    "phi_window": Kind(_azimuth_rank, _in_window, _by_rank, partition=False),
    "phi_sector": Kind(_sector_members, _in_sector, _by_azimuth, partition=True),
}
