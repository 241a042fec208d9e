"""What two hits say about being on one track from the beam line: a curvature, and where along the beam it started.

Three points fix a circle, two hits and the beam line thus a curvature, and the helix through both hits crosses the beam
line at a z0. Pairs of one track agree with the field and the beam spot, most others do not: physics that a network
otherwise has to find in products of features. Own design; nothing here is learned.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from trackbench.geometry.detector import CURVATURE

MAX_Q_OVER_PT = 7.0  # [1/GeV]; pairs of larger curvature are no pair: pT of 140 MeV turns round inside the detector
STRONGEST_BIAS = 6.0  # logit by which the last head of a layer prefers pairs that agree; the first has none
_SMALL = 1e-6  # [mm]
_CHUNK = 1024  # rows of pairs at once


class Pairs(NamedTuple):
    """What pairs of hits say, (B, Q, S) each.

    q_over_pt: of the circle through the beam line [1/GeV], 0 where it is no pair
    agreement: 0 to 1, exp(-(z0 / vertex_width)^2); 0 behind the beam line and above ``MAX_Q_OVER_PT``
    distance: between the hits in x, y [mm]
    """

    q_over_pt: Tensor
    agreement: Tensor
    distance: Tensor


def hit_pairs(xyz: Tensor, vertex_width: float) -> Pairs:
    """Pairs of all hits of an event. xyz: (B, S, 3) [mm]; vertex_width: see ``pair_curvatures``.

    Returns (B, S, S) each. Cost and memory O(B S^2).
    """
    parts = (xyz[:, first : first + _CHUNK] for first in range(0, xyz.shape[1], _CHUNK))
    rows = [pair_curvatures(part, xyz, vertex_width) for part in parts]
    return Pairs(*(torch.cat(parts, dim=1) for parts in zip(*rows, strict=True)))


def pair_curvatures(one: Tensor, other: Tensor, vertex_width: float) -> Pairs:
    """Pairs of each hit of ``one`` with each of ``other``.

    one: (B, Q, 3), other: (B, S, 3), positions [mm]
    vertex_width: along the beam [mm], > 0; pairs that point farther from the origin agree less
    Returns (B, Q, S) each. With C = ``detector.CURVATURE``, C q/pT = sin(phi_in - phi_out) / distance where "in" is the
    hit of smaller radius; z0 with z linear in the transverse path s = asin(C q/pT r) / (C q/pT). A hit is no pair with
    itself.
    """
    xi, yi, zi = (part.unsqueeze(2) for part in one.unbind(-1))
    xj, yj, zj = (part.unsqueeze(1) for part in other.unbind(-1))
    ri, rj = torch.hypot(xi, yi).clamp(min=_SMALL), torch.hypot(xj, yj).clamp(min=_SMALL)
    distance = torch.hypot(xj - xi, yj - yi)
    sine = (yi * xj - xi * yj) / (ri * rj)
    half = torch.where(rj < ri, -sine, sine) / distance.clamp(min=1.0)
    si, sj = _path(half, ri), _path(half, rj)
    ds = sj - si
    z0 = (zi * sj - zj * si) * ds / (ds * ds + 4.0)  # 2 mm: hits at nearly one radius point nowhere
    q_over_pt = half / CURVATURE
    good = (xi * xj + yi * yj >= 0) & (q_over_pt.abs() < MAX_Q_OVER_PT) & (distance > 0)
    agreement = torch.exp(-((z0 / vertex_width) ** 2))
    return Pairs(torch.where(good, q_over_pt, 0.0), torch.where(good, agreement, 0.0), distance)


def pair_bias(pairs: Pairs, heads: int) -> Tensor:
    """Logits to add to those of attention: head h prefers pairs that agree by h / (heads - 1) ``STRONGEST_BIAS``.

    Returns (B, heads, S, S).
    """
    strength = torch.linspace(0.0, STRONGEST_BIAS, heads, device=pairs.agreement.device)
    return strength[:, None, None] * pairs.agreement[:, None]


def _path(half: Tensor, radius: Tensor) -> Tensor:
    """Transverse path to a radius: r (1 + u / 6 + 3 u^2 / 40 + 5 u^3 / 112), u = (half r)^2, good to 3 % at u = 0.8."""
    u = ((half * radius) ** 2).clamp(max=0.8)
    return radius * (1 + u * (1 / 6 + u * (3 / 40 + u * (5 / 112))))
