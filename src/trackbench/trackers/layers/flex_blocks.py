"""Block masks for FlexAttention from counts of pairs per block, without ever evaluating all pairs at once.

``create_block_mask`` of PyTorch holds S x S values for each event. Masks are remembered by what they hold, never by
the place of a batch in the data: public code keys them on the loader's position, which is wrong once it shuffles.
"""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trackbench.trackers.layers.mask_rules import Fields, Rule
from trackbench.trackers.layers.network_config import MaskConfig

BLOCK = 128  # side of the blocks that FlexAttention computes or skips as a whole
KEPT = 16  # block masks kept for batches that come again, such as those of a validation

SMALLEST_HEAD = 16  # FlexAttention on CUDA multiplies no smaller matrices
_STEPS = 8  # sizes per factor of 2

_kept: OrderedDict[bytes, object] = OrderedDict()


@functools.cache
def flex_function(compiled: bool):
    """FlexAttention, compiled once per shape or as it is, which computes all pairs."""
    from torch.nn.attention.flex_attention import flex_attention

    # Sizes unknown to the compiler give code that does not compile on CPUs for masks beyond the simplest (torch 2.13).
    return torch.compile(flex_attention, dynamic=False, fullgraph=True) if compiled else flex_attention


def ladder(number: int, least: int = 1) -> int:
    """Smallest of 8 numbers per factor of 2 that is not below ``number``, >= 0: few shapes, few compilations.

    least: steps are this wide at least; a power of 2
    """
    step = max(2 ** (number.bit_length() - 1) // _STEPS, least) if number else least
    return -(-number // step) * step


def padded_size(size: int) -> int:
    """Smallest multiple of ``BLOCK`` on the ``ladder`` that holds ``size`` hits; blocks added hold no pair."""
    return ladder(size, BLOCK)


@dataclass(frozen=True)
class FlexBlocks:
    """A mask as FlexAttention wants it.

    block_mask: BlockMask of the sorted and padded hits
    index: (B, T) int64, the hit at each sorted place, 0 in the padding to ``padded_size(S)``
    inverse: (B, S) int64, place of each hit; both None if sorting and padding would change nothing
    """

    block_mask: object
    index: Tensor | None
    inverse: Tensor | None


def block_mask(config: MaskConfig, fields: Fields, rule: Rule, counts: Callable[[], Tensor]) -> object:
    """BlockMask of sorted hits, the same object for the same content.

    fields: what the rule compares, padded to ``padded_size(S)``
    counts: gives the allowed pairs of each block, (B, n, n)
    """
    from torch.nn.attention.flex_attention import BlockMask

    key = _digest(config, fields)
    if key not in _kept:
        pairs = counts()
        full = pairs == BLOCK * BLOCK
        size = fields["valid"].shape[1]
        _kept[key] = BlockMask.from_kv_blocks(
            *_listed((pairs > 0) & ~full), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=rule, seq_lengths=(size, size)
        )
        if len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def forget() -> None:
    """Forget all block masks, so that the next ones are built anew."""
    _kept.clear()


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Number of marked key blocks of each query block, (B, 1, n), and their indices first, (B, 1, n, n); int32."""
    blocks = blocks[:, None].int()
    return blocks.sum(-1, dtype=torch.int32), blocks.argsort(dim=-1, descending=True, stable=True).int()


def _digest(config: MaskConfig, fields: Fields) -> bytes:
    found = hashlib.sha256(repr(config).encode())
    for name, field in fields.items():
        found.update(f"{name} {tuple(field.shape)} {field.dtype} {field.device}".encode())
        found.update(field.cpu().contiguous().numpy().tobytes())
    return found.digest()
