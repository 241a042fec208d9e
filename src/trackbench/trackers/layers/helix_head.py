"""Regression head that measures the curvature from pairs of hits, chosen by attention.

A network finds the charge of a track late: angles are nearly those of the hit, but the bend of a track shows only in
relation to its other hits. This head offers each hit the curvatures of the circles through the beam line, itself and
every other hit, and learns whom to trust; azimuth and polar angle at the start follow from the curvature along the
helix. Before training its angles are those of the straight line through the hit, but for the bend of an unweighted
vote.

Own design; EncReg's head ("Trackformers", arXiv:2407.07179) is one linear layer.
"""

import torch
from torch import Tensor, nn

from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.network_config import PT_SCALE
from trackbench.trackers.layers.pairs import Pairs

WIDTH = 16  # of queries and keys
LEVER = 100.0  # [mm]; closer pairs measure the curvature badly
MAX_SINE = 0.95
SMALL = 1e-6
OWN_VOTE = 6.0  # weight of "no curvature", as a logit above that of an impossible pair


class HelixHead(nn.Module):
    """Head with outputs theta, sin phi, cos phi and q / (2.5 pT). width: of the encoder's output."""

    def __init__(self, width: int):
        super().__init__()
        self.correction = nn.Linear(width, 3)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.query = nn.Linear(width, WIDTH)
        self.key = nn.Linear(width, WIDTH)

    def forward(self, latents: Tensor, xyz: Tensor, pairs: Pairs, allowed: Tensor) -> Tensor:
        """Parameters of the track each hit is on.

        latents: (B, S, width); xyz: (B, S, 3) [mm]; pairs: of the hits
        allowed: (B, S, S) bool, True = the second hit may be asked
        Returns (B, S, 4); but for the learned shifts theta is that of the helix of the answered q/pT from the origin
        through the hit, cot(theta) = z / s with the transverse path s. Cost and memory O(S^2).
        """
        bend, phi_shift, theta_shift = self.correction(latents).unbind(-1)
        bend = bend + self._vote(latents, pairs, allowed) / PT_SCALE
        x, y, z = xyz.unbind(-1)
        radius = torch.hypot(x, y).clamp(min=SMALL)
        sine = CURVATURE * PT_SCALE * bend * radius  # of half the angle turned
        path = radius * path_factor(sine.clamp(-MAX_SINE, MAX_SINE))
        # Saturated softly, so that a too large bend, of which the clamp knows no slope, is still pulled back.
        phi = torch.atan2(y, x) + torch.asin(MAX_SINE * torch.tanh(sine / MAX_SINE)) + phi_shift
        theta = torch.atan2(path, z) + theta_shift
        return torch.stack((theta, phi.sin(), phi.cos(), bend), dim=-1)

    def _vote(self, latents: Tensor, pairs: Pairs, allowed: Tensor) -> Tensor:
        """Weighted mean of q/pT over the partners of each hit. Returns (B, S) [1/GeV]."""
        with torch.no_grad():
            trust = pairs.agreement * pairs.distance / (pairs.distance + LEVER)
            prior = torch.log(trust + SMALL)
            prior.diagonal(dim1=1, dim2=2).add_(OWN_VOTE)
            prior = prior.masked_fill(~allowed, float("-inf"))
            prior[~allowed.any(dim=-1)] = 0.0  # padding may ask nobody: any finite row will do
        logits = self.query(latents) @ self.key(latents).transpose(1, 2) / WIDTH**0.5 + prior
        return (logits.softmax(dim=-1) * pairs.q_over_pt).sum(dim=-1)


def path_factor(sine: Tensor) -> Tensor:
    """Path along a circle over its chord: asin(sine) / sine, 1 on a straight line.

    sine: (...) of half the angle turned, in (-1, 1). Returns (...).
    """
    square = sine * sine
    small = square < 1e-4  # where the series is exact to 4e-14
    safe = torch.where(small, 0.5, sine)  # or the slope of the branch that is not taken is NaN at 0
    return torch.where(small, 1 + square * (1 / 6 + square * (3 / 40)), torch.asin(safe) / safe)
