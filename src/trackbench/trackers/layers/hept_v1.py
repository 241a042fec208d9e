"""HEPT: kernel attention over hits in blocks of hashed queries and keys, and an output whose distances say track.

Source: HEPT (arXiv:2402.12535, github.com/Graph-COM/HEPT), the network for whole events. Differs from it in: padding
changes nothing; bins and spans are those of the real hits; a bias without any effect on the output is left out; with
inputs "geometry" the kernel sees cos phi and sin phi instead of phi.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trackbench.data.hits import Hits
from trackbench.geometry.coordinates import radius
from trackbench.trackers.layers import hept_batch
from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_features import N_FEATURES, hit_angles
from trackbench.trackers.layers.hept_v1_config import HeptV1Config
from trackbench.trackers.layers.kernel_attention import kernel_attention
from trackbench.trackers.layers.network import full_precision
from trackbench.trackers.layers.serialization import cell_keys, draw_sizes, quantile_cells, rank, sorted_places

# Scale that each coordinate of the kernel has: the directions share one.
SCALES = {"published": (0, 0, 1, 2, 3, 4), "geometry": (0, 0, 0, 1, 2)}
LARGEST = 50.0  # exponents of the scales are cut here


def kernel_coordinates(xyz: np.ndarray, inputs: str) -> np.ndarray:
    """Coordinates the kernel sees, as many as ``SCALES[inputs]``.

    xyz: (n, 3) [mm]
    inputs: "published" = eta, phi [rad], r [m], phi/pi, z [m], eta; "geometry" = eta, cos phi, sin phi, r [m], z [m]
    Returns (n, 6) or (n, 5) float64.
    """
    eta, phi = hit_angles(xyz).T
    r, z = radius(xyz) / 1000.0, xyz[:, 2] / 1000.0
    columns = [eta, phi, r, phi / np.pi, z, eta] if inputs == "published" else [eta, np.cos(phi), np.sin(phi), r, z]
    return np.stack(columns, axis=1)


def collate(events: Sequence[Hits], inputs: str, pad_to: int | None = None) -> HeptBatch:
    """Put events side by side, with ``kernel_coordinates`` as the positions. See ``hept_batch.collate``."""
    batch = hept_batch.collate(events, inputs, pad_to)
    positions = torch.zeros(*batch.valid.shape, len(SCALES[inputs]))
    for row, hits in enumerate(events):
        positions[row, : len(hits)] = torch.from_numpy(kernel_coordinates(hits.xyz, inputs).astype(np.float32))
    return dataclasses.replace(batch, positions=positions)


class KernelLayer(nn.Module):
    """Kernel attention and a feed-forward network, each behind a norm and added to its input.

    Buffer ``directions`` (heads, rounds, width + coordinates): normal numbers, by which widened queries and keys are
    projected to be sorted; drawn from torch's global generator and kept among the weights.
    """

    def __init__(self, config: HeptV1Config):
        super().__init__()
        width, heads = config.width, config.heads
        self.heads, self.block = heads, config.block
        scales = SCALES[config.inputs]
        self.register_buffer("scale_of", torch.tensor(scales), persistent=False)
        self.register_buffer("directions", torch.randn(heads, config.rounds, width + len(scales)))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, heads * width, bias=False) for _ in range(3))
        n_inputs = (max(scales) + 1) * config.kernel_terms
        self.scales = nn.Parameter(torch.empty(heads, width, max(scales) + 1, config.kernel_terms))
        nn.init.uniform_(self.scales, -(n_inputs**-0.5), n_inputs**-0.5)  # as the linear map it is in the source
        self.out = nn.Linear(heads * width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, batch: HeptBatch, cells: Tensor) -> Tensor:
        """One layer. x: (B, S, width); cells: (B, heads, rounds, S) int64. Returns (B, S, width)."""
        y = self.norm1(x)
        parts = (self.query, self.key, self.value)
        q, k, v = (part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, heads, S, width)
        with full_precision(x):
            q, k = self._widened(q, k, batch.positions)
            q_orders, k_orders = self._orders(q, k, cells, batch.valid)
            found = kernel_attention(q, k, v.float(), q_orders, k_orders, batch.lengths, self.block)
        x = x + self.dropout(self.out(found.to(v.dtype).transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed_forward(self.norm2(x)))

    def _widened(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """[q, sqrt(2 w) c] and the same of k, (B, heads, S, width + coordinates) float32; c: coordinates."""
        w = self.scales.sum(1).clamp(max=LARGEST).exp().sum(-1)  # (heads, scales)
        placed = (2.0 * w[:, self.scale_of]).sqrt()[:, None] * positions[:, None]
        return torch.cat((q.float(), placed), -1), torch.cat((k.float(), placed), -1)

    @torch.no_grad()
    def _orders(self, q: Tensor, k: Tensor, cells: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Places sorted by cell, then projection, padding last: two times (B, heads, rounds, S) int64."""
        p = torch.stack([torch.einsum("bhsd,hrd->bhrs", part, self.directions) for part in (q, k)]).double()
        return sorted_places(cell_keys(p, cells, valid), valid).unbind(0)


class HeptV1Network(nn.Module):
    """Input MLP, layers, and the output from the states before and after all layers.

    Buffer ``sizes`` (heads, rounds, 2): cells in eta and in phi of each order, the same in all layers. Under autocast
    the input, the kernel, the orders and the output are computed in float32.
    """

    def __init__(self, config: HeptV1Config):
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("sizes", draw_sizes((config.heads, config.rounds, 2), config.regions))
        self.input = nn.Sequential(nn.Linear(N_FEATURES[config.inputs], width), nn.ReLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(KernelLayer(config) for _ in range(config.layers))
        self.joined = nn.Linear(width * (config.layers + 1), config.output, bias=False)
        self.output = _output_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: HeptBatch) -> Tensor:
        """Apply the network. batch: of ``collate``. Returns (B, S, output) float32, of no meaning in the padding."""
        cells = self._cells(batch)
        with full_precision(batch.features):
            states = [self.input(batch.features)]
        for layer in self.layers:
            states.append(layer(states[-1], batch, cells))
        with full_precision(batch.features):
            joined = self.joined(torch.cat([state.float() for state in states], -1))
            return joined + self.dropout(self.output(joined))

    @torch.no_grad()
    def _cells(self, batch: HeptBatch) -> Tensor:
        """Number of the eta-phi cell of each hit in each order, (B, heads, rounds, S) int64."""
        ranks, config = rank(batch.angles, batch.valid), self.config
        cell, n_eta = quantile_cells(self.sizes, ranks, batch.lengths, config.regions, config.block)
        return cell[..., 1, :] * n_eta + cell[..., 0, :]


def _output_mlp(config: HeptV1Config) -> nn.Sequential:
    """Linear maps of ``output_layers`` in number with layer norm and tanh between them."""
    sizes = [config.output, *[config.output_hidden] * (config.output_layers - 1), config.output]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), nn.LayerNorm(after), nn.Tanh()]
    return nn.Sequential(*parts[:-2])
