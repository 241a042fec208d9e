"""What a network is told about a hit: its position, or where helices from the beam line through it started.

Along a helix from the origin, z and azimuth change with the radius by the curvature alone. For the right q/pT all hits
of a track have the same initial azimuth and the same cot(theta): features with a grid of curvatures let the network
pick between ready answers instead of learning trigonometry (``trackbench.fitting.helix``, with d0 = z0 = 0).
"""

import torch
from torch import Tensor, nn

from trackbench.geometry.detector import CURVATURE
from trackbench.trackers.layers.network_config import INPUTS

# |q/pT| of the grid [1/GeV], both signs: pT of 4 GeV to 170 MeV. 0 is in the other features.
GRID = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MAX_SINE = 0.99  # of half the angle turned: beyond, the helix does not reach the hit, which gets the last one that does
SMALLEST_LENGTH = 1e-3  # [mm]; keeps hits at the origin and on the beam line finite
N_FEATURES = {"xyz": 3, "helix": 8 + 5 * len(GRID)}


class HitFeatures(nn.Module):
    """Positions to features; no weights, only the constants of the training set.

    kind: "xyz" = (x - mean) / scale as published, 3 features; "helix" = ``N_FEATURES["helix"]`` features: unit x and y,
        z/R, asinh(z/r), scaled x, y, z and r, and per |q/pT| of ``GRID`` cosine and sine of the initial azimuth of a
        positive and of a negative particle through the hit and asinh(cot theta) of both
    mean, scale: (3,) buffers, set by ``set_normalisation``: [mm], 0 and 1 before
    """

    mean: Tensor
    scale: Tensor
    grid: Tensor

    def __init__(self, kind: str):
        super().__init__()
        if kind not in INPUTS:
            raise ValueError(f"unknown inputs {kind!r}, expected one of {', '.join(INPUTS)}")
        self.kind = kind
        self.size = N_FEATURES[kind]
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))
        if kind == "helix":
            # Part of the state, so that weights never meet another grid than the one they were trained with.
            self.register_buffer("grid", CURVATURE * torch.tensor(GRID))

    def set_normalisation(self, mean: Tensor, scale: Tensor) -> None:
        """Set the constants of the training set: mean, scale (3,) [mm], scale > 0 (else ValueError)."""
        mean, scale = torch.as_tensor(mean), torch.as_tensor(scale)
        if mean.shape != (3,) or scale.shape != (3,) or not mean.isfinite().all() or not (scale > 0).all():
            raise ValueError(f"mean {mean.tolist()} and scale {scale.tolist()}, expected three numbers each, scale > 0")
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, xyz: Tensor) -> Tensor:
        """Features of hits. xyz: (..., 3) float32 [mm]. Returns (..., size) float32."""
        scaled = (xyz - self.mean) / self.scale
        if self.kind == "xyz":
            return scaled
        return torch.cat((self._place(xyz, scaled), helix_grid(xyz, self.grid)), dim=-1)

    def _place(self, xyz: Tensor, scaled: Tensor) -> Tensor:
        """Unit x, y, z/R, asinh(z/r), scaled x, y, z, r: (..., 8)."""
        x, y, z = xyz.unbind(-1)
        radius = torch.hypot(x, y)
        safe = radius.clamp(min=SMALLEST_LENGTH)
        distance = torch.hypot(radius, z).clamp(min=SMALLEST_LENGTH)
        scaled_radius = radius / torch.hypot(self.scale[0], self.scale[1])
        angles = torch.stack((x / safe, y / safe, z / distance, torch.asinh(z / safe), scaled_radius), dim=-1)
        return torch.cat((angles, scaled), dim=-1)


def helix_grid(xyz: Tensor, curvatures: Tensor) -> Tensor:
    """Directions at the origin of the helices of given curvatures through hits.

    xyz: (..., 3) [mm]; curvatures: (G,) C |q/pT| [1/mm] > 0, C = ``detector.CURVATURE``
    Returns (..., 5 G): for each curvature the cosines for q > 0 and q < 0, the sines for both, and asinh(cot theta).
    A positive particle turns to smaller azimuth: phi0 = phi + asin(C |k| r) for it, phi - asin(C |k| r) for a negative
    one; cot(theta) = z / s with the transverse path s = asin(C |k| r) / (C |k|).
    """
    x, y, z = (part.unsqueeze(-1) for part in xyz.unbind(-1))
    radius = torch.hypot(x, y).clamp(min=SMALLEST_LENGTH)
    sine = (curvatures * radius).clamp(max=MAX_SINE)
    cosine = torch.sqrt(1.0 - sine * sine)
    cos_phi, sin_phi = x / radius, y / radius
    parts = (
        cos_phi * cosine - sin_phi * sine,  # q > 0: phi + asin
        cos_phi * cosine + sin_phi * sine,
        sin_phi * cosine + cos_phi * sine,
        sin_phi * cosine - cos_phi * sine,
        torch.asinh(z * curvatures / torch.asin(sine)),
    )
    return torch.cat(parts, dim=-1)
