"""Sectors of azimuth with equal numbers of hits, in which the decoder of HEPTv2 works side by side.

Source: HEPTv2 (github.com/Graph-COM/HEPTv2), whose sectors are runs of equal count although its text speaks of equal
angles. Differs from it in: padding is no hit of a sector; optional windows across the borders.
"""

import torch
from torch import Tensor


def sector_places(angles: Tensor, valid: Tensor, sectors: int, overlap: bool) -> Tensor:
    """Hits of each sector, sorted by azimuth.

    angles: (B, S, 2) eta and phi [rad]; valid: (B, S) bool, real hits first
    sectors: k runs of the hits sorted by phi from -pi on; of N hits, the first N mod k runs get one more than the rest
    overlap: k more windows of the same lengths follow, moved by half a sector, round(N / 2k) places, the last of which
        closes the seam at phi = +-pi
    Returns (B, k or 2k, T) int64: places of the hits in the event, -1 = padding, which comes last; T = ceil(S / k), at
    least 1. Without overlap each hit is in one sector, with overlap in two windows. Hits of equal phi are sorted by
    eta, so that the order of the hits in the event does not matter.
    """
    lengths = valid.sum(1)  # (B,)
    order = _sorted_by_phi(angles, valid)
    size = max(-(-angles.shape[1] // sectors), 1)
    number = torch.arange(sectors, device=angles.device)
    share, more = lengths // sectors, lengths % sectors
    count = share[:, None] + (number < more[:, None])  # (B, k)
    start = number * share[:, None] + torch.minimum(number, more[:, None])
    if overlap:
        shift = torch.div(lengths + sectors, 2 * sectors, rounding_mode="floor")
        count, start = torch.cat((count, count), dim=1), torch.cat((start, start + shift[:, None]), dim=1)
    step = torch.arange(size, device=angles.device)
    place = (start[:, :, None] + step) % lengths.clamp(min=1)[:, None, None]  # (B, G, T)
    found = order.gather(1, place.flatten(1)).view_as(place)
    return torch.where(step < count[:, :, None], found, -1)


def _sorted_by_phi(angles: Tensor, valid: Tensor) -> Tensor:
    """Places of the hits by phi, then eta, padding last: (B, S) int64."""
    eta, phi = angles.unbind(-1)
    by_eta = torch.argsort(eta, dim=1, stable=True)
    key = torch.where(valid, phi, torch.inf).gather(1, by_eta)
    return by_eta.gather(1, torch.argsort(key, dim=1, stable=True))
