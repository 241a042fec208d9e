"""Orders of the hits of an event, along which attention cuts them into blocks: locality-sensitive hashing and curves.

Source of "lsh": OR-AND E2LSH of HEPTv2 (arXiv:2606.20437) on eta and phi. The plane is cut into cells of equal counts
in eta and in phi (AND); within a cell hits are sorted by their projection on a random direction, and several orders
are drawn (OR). Differs from it in: counts and spans are those of the real hits, so padding changes no order; keys are
float64, which leaves no ties; ties in a rank are broken by the other angle, so an order depends on the hits and not
on where they stand. Only hits with equal angles stay in the order they come in.
Source of "hilbert": D. Hilbert, Math. Ann. 38 (1891) 459; of "zorder": G. M. Morton, IBM (1966).
"""

import torch
from torch import Tensor, nn

from trackbench.trackers.layers.hept_config import HeptConfig

GRID_BITS = 10  # the curves run through 2^10 x 2^10 cells
REGIONS_PER_BLOCK = 1.7  # regions = 0: cells per block of hits
_DRAWN_FOR = 100  # regions = 0: the number of cells that shapes are drawn for
_THIRDS = 3  # numbers of cells are multiples of 1/3
_BELOW_ONE = 1.0 - 2.0**-40  # keeps the place within a cell below the next cell


class Serialization(nn.Module):
    """Orders of hits for every layer, head and round of an encoder. No trained weights.

    config: serialization, layers, heads, rounds, regions, block
    With "lsh" two random tables are drawn from the global generator of torch and kept among the weights:
    ``sizes`` (heads, rounds, 2), cells in eta and in phi, the same in all layers; their product is ``regions`` before
    they are rounded to 1/3, or 100, not rounded, with regions = 0, when it is scaled to the event;
    ``directions`` (layers, heads, rounds, 2), normal numbers, by which eta and phi are projected.
    """

    def __init__(self, config: HeptConfig):
        super().__init__()
        self.config = config
        if config.serialization == "lsh":
            shape = (config.heads, config.rounds, 2)
            self.register_buffer("sizes", draw_sizes(shape, config.regions))
            self.register_buffer("directions", torch.randn(config.layers, *shape))

    @torch.no_grad()
    def forward(self, angles: Tensor, valid: Tensor) -> Tensor:
        """Sort the hits of each event.

        angles: (B, S, 2), eta and phi [rad], finite for real hits
        valid: (B, S) bool, True = real hit
        Returns (layers, B, heads, rounds, S) int64: the hit at each place of an order, padding last. The curves and
        "phi" have one order for all layers, heads and rounds. Cost O(layers heads rounds S log S), in one sort.
        """
        config = self.config
        shape = (config.layers, len(angles), config.heads, config.rounds, angles.shape[1])
        if 0 in shape:
            return torch.zeros(shape, dtype=torch.int64, device=angles.device)
        ranks = rank(angles, valid)
        # No matrix product below: autocast reaches none of it, whatever its state.
        key = self._lsh(angles.double(), valid, ranks) if config.serialization == "lsh" else self._curve(valid, ranks)
        return sorted_places(key, valid).expand(shape)

    def _lsh(self, angles: Tensor, valid: Tensor, ranks: Tensor) -> Tensor:
        """Keys (layers, B, heads, rounds, S) int64, ordered as (phi cell, eta cell, projection)."""
        config = self.config
        cell, n_eta = quantile_cells(self.sizes, ranks, valid.sum(1), config.regions, config.block)
        eta, phi = angles[:, None, None].unbind(-1)
        weights = self.directions.double()[:, None, ..., None]
        p = weights[..., 0, :] * eta + weights[..., 1, :] * phi
        return cell_keys(p, cell[..., 1, :] * n_eta + cell[..., 0, :], valid)

    def _curve(self, valid: Tensor, ranks: Tensor) -> Tensor:
        """Keys (1, B, 1, 1, S) int64: code of the cell of a hit on a grid of ranks, then its rank in phi."""
        by_phi = ranks[:, 1]
        if self.config.serialization == "phi":
            return by_phi[None, :, None, None].clone()
        x, y = ((ranks << GRID_BITS) // valid.sum(1).clamp(min=1)[:, None, None]).unbind(1)
        code = (hilbert_code if self.config.serialization == "hilbert" else morton_code)(x, y)
        return (code << 32 | by_phi)[None, :, None, None]


def cell_keys(p: Tensor, cells: Tensor, valid: Tensor) -> Tensor:
    """Keys that are ordered as (cell, projection).

    p: (..., B, heads, rounds, S) float64, projections, overwritten; cells: (B, heads, rounds, S), numbers >= 0
    valid: (B, S) bool
    Returns int64 of the shape of p, of no meaning in the padding.
    """
    padding = ~valid[:, None, None]
    low = p.masked_fill_(padding, torch.inf).amin(-1, keepdim=True)
    high = p.masked_fill_(padding, -torch.inf).amax(-1, keepdim=True)
    span = (high - low).clamp(min=torch.finfo(p.dtype).tiny)
    p.sub_(low).div_(span).mul_(_BELOW_ONE).add_(cells)
    # Numbers >= 0 are ordered as their bits, and integers are sorted faster.
    return p.view(torch.int64)


def sorted_places(key: Tensor, valid: Tensor) -> Tensor:
    """Places by rising key, padding last, ties as they come.

    key: (..., B, heads, rounds, S) int64, overwritten in the padding; valid: (B, S) bool
    Returns the shape of key, int64.
    """
    key.masked_fill_(~valid[:, None, None], torch.iinfo(torch.int64).max)
    return torch.sort(key, dim=-1, stable=True).indices


def rank(angles: Tensor, valid: Tensor) -> Tensor:
    """Rank of each hit in eta and in phi among the real hits of its event; ties in one by the other.

    angles: (B, S, 2); valid: (B, S) bool
    Returns (B, 2, S) int64, 0 for the smallest; padding has the last ranks.
    """
    own = angles.transpose(1, 2).masked_fill(~valid[:, None], torch.inf)
    first = torch.sort(own.flip(1), dim=-1, stable=True).indices
    order = first.gather(-1, torch.sort(own.gather(-1, first), dim=-1, stable=True).indices)
    return torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )


def morton_code(x: Tensor, y: Tensor, bits: int = GRID_BITS) -> Tensor:
    """Place of a cell on the Z-order curve: bits of x and y in turn, those of y first.

    x, y: int64 of one shape, in [0, 2^bits). Returns int64 in [0, 4^bits).
    """
    code = torch.zeros_like(x)
    for bit in range(bits):
        code |= (x >> bit & 1) << 2 * bit | (y >> bit & 1) << 2 * bit + 1
    return code


def hilbert_code(x: Tensor, y: Tensor, bits: int = GRID_BITS) -> Tensor:
    """Place of a cell on the Hilbert curve that goes from (0, 0) to (2^bits - 1, 0).

    x, y: int64 of one shape, in [0, 2^bits). Returns int64 in [0, 4^bits); consecutive codes are neighbouring cells.
    """
    code, last = torch.zeros_like(x), 2**bits - 1
    for bit in reversed(range(bits)):
        right, upper = x >> bit & 1, y >> bit & 1
        code |= (3 * right ^ upper) << 2 * bit
        # The lower quarters are the curve mirrored at a diagonal: the right one also turned by half a turn.
        turned = (right == 1) & (upper == 0)
        x, y = torch.where(turned, last - x, x), torch.where(turned, last - y, y)
        x, y = torch.where(upper == 0, y, x), torch.where(upper == 0, x, y)
    return code


def draw_sizes(shape: tuple[int, int, int], regions: int) -> Tensor:
    """Numbers of cells in eta and phi: two uniform numbers in [2, 2 sqrt(R) - 2], rescaled to product R.

    shape: (heads, rounds, 2); regions: R, rounded to 1/3; 0 = 100, not rounded
    Returns float32 of this shape, from torch's global generator.
    """
    wanted = regions or _DRAWN_FOR
    longest = max(2.0 * wanted**0.5 - 2.0, 2.0)  # fewer than 4 cells: both numbers equal
    drawn = 2.0 + (longest - 2.0) * torch.rand(shape, dtype=torch.float64)
    sizes = drawn * (wanted / drawn.prod(-1, keepdim=True)).sqrt()
    return (sizes if not regions else (_THIRDS * sizes).round() / _THIRDS).float()


def quantile_cells(sizes: Tensor, ranks: Tensor, count: Tensor, regions: int, block: int) -> tuple[Tensor, Tensor]:
    """Cells of equal counts in eta and in phi.

    sizes: (heads, rounds, 2) of ``draw_sizes`` with the same ``regions``; ranks: (B, 2, S) of ``rank``; count: (B,)
        real hits; block: hits of a block, from which regions = 0 takes the number of cells
    Returns the cells of the hits in eta and phi, (B, heads, rounds, 2, S) int64, and the number of cells in eta,
    (B, heads, rounds, 1).
    """
    thirds = _thirds(sizes, count, regions, block)
    hits = (_THIRDS * count[:, None, None, None] + thirds - 1) // thirds
    n_eta = (thirds[..., :1] + _THIRDS - 1) // _THIRDS
    return ranks[:, None, None] // hits.clamp(min=1)[..., None], n_eta


def _thirds(sizes: Tensor, count: Tensor, regions: int, block: int) -> Tensor:
    """Cells in eta and phi in units of 1/3, (B, heads, rounds, 2) int64, at least 3."""
    wanted = torch.full_like(count, regions, dtype=torch.float64)
    if not regions:
        wanted = (REGIONS_PER_BLOCK / block * count.double()).clamp(min=1.0)
    scale = (wanted / (regions or _DRAWN_FOR)).sqrt()[:, None, None, None]
    return (_THIRDS * sizes.double() * scale).round().long().clamp(min=_THIRDS)
