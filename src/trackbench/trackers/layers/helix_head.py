"""Regression head that measures the curvature from pairs of hits, chosen by attention.

A network finds the charge of a track late: angles are nearly those of the hit, but the bend of a track shows only in
relation to its other hits. This head offers each hit the curvatures of the circles through the beam line, itself and
every other hit, and learns whom to trust; the initial azimuth follows from the curvature along the helix. With all its
weights at zero it says what a straight line through the hit would.

Own design; EncReg's head ("Trackformers", arXiv:2407.07179) is one linear layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trackbench.geometry.detector import CURVATURE

WIDTH = 16  # of queries and keys
SCALE = 2.5  # the output is q / (2.5 pT), as ``training.targets`` has it
MAX_Q_OVER_PT = 7.0  # [1/GeV]; pairs of larger curvature are no pair: pT of 140 MeV turns round inside the detector
VERTEX_WIDTH = 20.0  # [mm] along the beam; pairs that point elsewhere count less
LEVER = 100.0  # [mm]; closer pairs measure the curvature badly
MAX_SINE = 0.95
SMALL = 1e-6
OWN_VOTE = 6.0  # weight of "no curvature", as a logit above that of an impossible pair
_CHUNK = 1024  # rows of pairs at once


class Pairs(NamedTuple):
    """What pairs of hits say, (B, Q, S) each: q/pT of the circle [1/GeV], and how far it can be trusted, 0 to 1."""

    q_over_pt: Tensor
    trust: Tensor


class HelixHead(nn.Module):
    """Head with outputs theta, sin phi, cos phi and q / (2.5 pT). width: of the encoder's output."""

    def __init__(self, width: int):
        super().__init__()
        self.correction = nn.Linear(width, 3)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.query = nn.Linear(width, WIDTH)
        self.key = nn.Linear(width, WIDTH)

    def forward(self, latents: Tensor, xyz: Tensor, allowed: Tensor) -> Tensor:
        """Parameters of the track each hit is on.

        latents: (B, S, width); xyz: (B, S, 3) [mm]; allowed: (B, S, S) bool, True = the second hit may be asked
        Returns (B, S, 4). Cost and memory O(S^2); rows of hits that may ask nobody keep the straight line.
        """
        bend, phi_shift, theta_shift = self.correction(latents).unbind(-1)
        queries, keys = self.query(latents), self.key(latents)
        votes = []
        for first in range(0, xyz.shape[1], _CHUNK):
            rows = slice(first, first + _CHUNK)
            votes.append(self._vote(queries[:, rows], keys, xyz, allowed[:, rows], first))
        bend = bend + torch.cat(votes, dim=1) / SCALE
        x, y, z = xyz.unbind(-1)
        radius = torch.hypot(x, y).clamp(min=SMALL)
        sine = MAX_SINE * torch.tanh(CURVATURE * SCALE * bend * radius / MAX_SINE)
        phi = torch.atan2(y, x) + torch.asin(sine) + phi_shift
        theta = torch.atan2(radius, z) + theta_shift
        return torch.stack((theta, phi.sin(), phi.cos(), bend), dim=-1)

    def _vote(self, queries: Tensor, keys: Tensor, xyz: Tensor, allowed: Tensor, first: int) -> Tensor:
        """Weighted mean of q/pT over the partners of the hits from ``first`` on. Returns (B, Q) [1/GeV]."""
        n_rows = queries.shape[1]
        with torch.no_grad():
            pairs = pair_curvatures(xyz[:, first : first + n_rows], xyz)
            trust = torch.where(allowed, pairs.trust, 0.0)
            prior = torch.log(trust + SMALL)
            own = torch.arange(first, first + n_rows, device=xyz.device)
            prior[:, torch.arange(n_rows, device=xyz.device), own] += OWN_VOTE
            prior = prior.masked_fill(~allowed, float("-inf"))
            # A padded hit may ask nobody: any finite row will do.
            prior[~allowed.any(dim=-1)] = 0.0
        weights = (queries @ keys.transpose(1, 2) / WIDTH**0.5 + prior).softmax(dim=-1)
        return (weights * pairs.q_over_pt).sum(dim=-1)


def pair_curvatures(one: Tensor, other: Tensor) -> Pairs:
    """Curvature of the circle through the beam line and two hits, and how plausible it is as a track.

    one: (B, Q, 3), other: (B, S, 3), positions [mm]
    Returns (B, Q, S) each; with C = ``detector.CURVATURE``, C q/pT = sin(phi_in - phi_out) / |distance in x, y| where
    "in" is the hit of smaller radius. Trust is 0 behind the beam line and above ``MAX_Q_OVER_PT``, else
    exp(-(z0 / VERTEX_WIDTH)^2) d / (d + LEVER): z0 is where the helix through both hits crosses the beam line, with
    z linear in the transverse path s = asin(C q/pT r) / (C q/pT). q/pT is 0 where the trust is.
    """
    xi, yi, zi = (part.unsqueeze(2) for part in one.unbind(-1))
    xj, yj, zj = (part.unsqueeze(1) for part in other.unbind(-1))
    ri, rj = torch.hypot(xi, yi).clamp(min=SMALL), torch.hypot(xj, yj).clamp(min=SMALL)
    distance = torch.hypot(xj - xi, yj - yi)
    sine = (yi * xj - xi * yj) / (ri * rj)
    half = torch.where(rj < ri, -sine, sine) / distance.clamp(min=1.0)
    si, sj = _path(half, ri), _path(half, rj)
    ds = sj - si
    z0 = (zi * sj - zj * si) * ds / (ds * ds + 4.0)
    trust = torch.exp(-((z0 / VERTEX_WIDTH) ** 2)) * distance / (distance + LEVER)
    q_over_pt = half / CURVATURE
    good = (xi * xj + yi * yj >= 0) & (q_over_pt.abs() < MAX_Q_OVER_PT) & (distance > 0)
    return Pairs(torch.where(good, q_over_pt, 0.0), torch.where(good, trust, 0.0))


def _path(half: Tensor, radius: Tensor) -> Tensor:
    """Transverse path to a radius: r (1 + u / 6 + 3 u^2 / 40 + 5 u^3 / 112), u = (half r)^2, good to 3 % at u = 0.8."""
    u = ((half * radius) ** 2).clamp(max=0.8)
    return radius * (1 + u * (1 / 6 + u * (3 / 40 + u * (5 / 112))))
