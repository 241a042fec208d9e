"""Block attention against explicit softmax over all hits of the blocks of a hit, and its gradients."""

import pytest
import torch

from trackbench.trackers.layers.block_attention import attention_with_lse, block_attention
from trackbench.trackers.layers.block_flex import flex_blocks

LENGTHS = (0, 1, 7, 40, 24, 33)
HEADS, WIDTH, SCALE = 2, 16, 0.25


def inputs(lengths=LENGTHS, rounds=3, size=None, seed=0, dtype=torch.float64):
    """q, k, v of random hits and random orders with the padding last."""
    generator = torch.Generator().manual_seed(seed)
    size = max(lengths) if size is None else size
    shape = (len(lengths), HEADS, size, WIDTH)
    q, k, v = (2.0 * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3))
    orders = torch.arange(size).expand(len(lengths), HEADS, rounds, size).clone()
    for event, head, r in torch.cartesian_prod(torch.arange(len(lengths)), torch.arange(HEADS), torch.arange(rounds)):
        n = lengths[event]
        orders[event, head, r, :n] = torch.randperm(n, generator=generator)
    return [q, k, v], orders, torch.tensor(lengths)


def explicit(q, k, v, orders, lengths, block, scale=SCALE):
    """Weight of hit j for hit i = (blocks they share) * exp(logit), normalised. Dense and slow."""
    out = torch.zeros_like(v)
    rows = []
    for event, n in enumerate(lengths.tolist()):
        for head in range(q.shape[1]):
            shared = torch.zeros(n, n, dtype=q.dtype)
            for order in orders[event, head, :, :n]:
                number = torch.empty(n, dtype=torch.int64)
                number[order] = torch.arange(n) // block
                shared += number[:, None] == number[None, :]
            logit = scale * q[event, head, :n] @ k[event, head, :n].T
            largest = logit.detach().masked_fill(shared == 0, -torch.inf).amax(1, keepdim=True) if n else logit
            weight = shared * torch.exp((logit - largest).masked_fill(shared == 0, 0.0))
            rows.append((event, head, n, weight @ v[event, head, :n] / weight.sum(1, keepdim=True)))
    for event, head, n, found in rows:
        out = out.index_put((torch.tensor(event), torch.tensor(head), torch.arange(n)), found)
    return out


def with_gradients(function, tensors, *rest, seed=5):
    """Output and the gradients of q, k, v for a random gradient of the output, also in the padding."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*leaves, *rest)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [out.detach(), *torch.autograd.grad(out, leaves, weights.to(out.dtype))]


def close(found, expected, tolerance):
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(found, expected, strict=True))


def test_one_block_and_one_round_is_dense_attention():
    tensors, orders, lengths = inputs((300,), rounds=1, dtype=torch.float32)

    def dense(q, k, v):
        return torch.softmax(SCALE * q @ k.transpose(-1, -2), -1) @ v

    expected = with_gradients(dense, tensors)
    for block in (300, 1024):
        found = with_gradients(block_attention, tensors, orders, lengths, block, SCALE)
        assert close(found, expected, 1e-5)
    assert not close(with_gradients(block_attention, tensors, orders, lengths, 299, SCALE), expected, 1e-2)


@pytest.mark.parametrize("block", [1, 5, 8, 24, 64])
@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 5e-5)], ids=str)
def test_rounds_are_softmax_over_the_multiset_union(block, rounds, dtype, tolerance):
    tensors, orders, lengths = inputs(rounds=rounds, dtype=dtype)
    expected = with_gradients(explicit, [tensor.double() for tensor in tensors], orders, lengths, block)
    found = with_gradients(block_attention, tensors, orders, lengths, block, SCALE)
    assert all(part.dtype == dtype for part in found)
    assert close([part.double() for part in found], expected, tolerance)


def test_large_logits_stay_finite():
    tensors, orders, lengths = inputs(dtype=torch.float32)
    tensors[0] = 100 * tensors[0]
    found = with_gradients(block_attention, tensors, orders, lengths, 8, SCALE)
    assert all(torch.isfinite(part).all() for part in found)
    expected = explicit(*(tensor.double() for tensor in tensors), orders, lengths, 8)
    assert close([found[0].double()], [expected], 1e-3)


def test_gradients_of_finite_differences():
    tensors, orders, lengths = inputs((5, 3), rounds=2)
    leaves = [tensor[..., :3].clone().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda *leaf: block_attention(*leaf, orders, lengths, 3, SCALE), leaves)


def test_padding_and_neighbours_change_nothing():
    tensors, orders, lengths = inputs()
    found = with_gradients(block_attention, tensors, orders, lengths, 8, SCALE)
    extra = 13
    pads = torch.arange(40, 40 + extra).expand(*orders.shape[:3], extra)
    for fill in (0.0, 1e3):
        padded = [torch.nn.functional.pad(tensor, (0, 0, 0, extra), value=fill) for tensor in tensors]
        longer = with_gradients(block_attention, padded, torch.cat((orders, pads), -1), lengths, 8, SCALE, seed=6)
        assert torch.equal(longer[0][:, :, :40], found[0]) and not longer[0][:, :, 40:].any()
    for event, n in enumerate(LENGTHS):
        one = slice(event, event + 1)
        alone = block_attention(*(t[one, :, :n] for t in tensors), orders[one, ..., :n], lengths[one], 8, SCALE)
        assert torch.allclose(alone, found[0][one, :, :n], rtol=0, atol=1e-13)
        for part in found:
            assert not part[event, :, n:].any()


def test_permuted_hits_give_permuted_outputs():
    tensors, orders, lengths = inputs((40,), dtype=torch.float32)
    moved = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    expected = block_attention(*tensors, orders, lengths, 8, SCALE)
    permuted = [tensor[:, :, moved] for tensor in tensors]
    found = block_attention(*permuted, torch.argsort(moved)[orders], lengths, 8, SCALE)
    assert torch.equal(found, expected[:, :, moved])


def test_many_blocks_are_computed_in_parts():
    """More hits than are taken at once, views that are not contiguous, and twice the same bytes."""
    tensors, orders, lengths = inputs((20000, 13001), rounds=2, dtype=torch.float32)
    views = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in tensors]
    found = with_gradients(block_attention, views, orders, lengths, 64, SCALE)
    again = with_gradients(block_attention, tensors, orders, lengths, 64, SCALE)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    q, k, v = (tensor[1, 1, :13001].double() for tensor in tensors)
    hits = torch.tensor([0, 5, 12999, *orders[1, 1, :, 12990].tolist()])
    for hit in hits.tolist():
        blocks = [order[:13001][(at := int((order == hit).nonzero())) // 64 * 64 :][:64] for order in orders[1, 1]]
        keys = torch.cat(blocks)
        assert all(hit in block for block in blocks) and at >= 0
        expected = torch.softmax(SCALE * k[keys] @ q[hit], 0) @ v[keys]
        assert torch.allclose(found[0][1, 1, hit].double(), expected, atol=1e-5)


def test_no_gradient_where_none_is_wanted():
    tensors, orders, lengths = inputs()
    tensors[2].requires_grad_()
    block_attention(*tensors, orders, lengths, 8, SCALE).sum().backward()
    assert tensors[0].grad is None and tensors[2].grad[3].abs().sum() > 0


def test_autocast_computes_in_its_precision():
    tensors, orders, lengths = inputs((40, 24), dtype=torch.float32)
    expected = with_gradients(block_attention, tensors, orders, lengths, 8, SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(block_attention, tensors, orders, lengths, 8, SCALE)
    assert found[0].dtype == torch.bfloat16 and found[1].dtype == torch.float32
    for part, exact in zip(found[1:], expected[1:], strict=True):
        assert 1e-4 < (part - exact).norm() / exact.norm() < 3e-1
    assert (found[0].float() - expected[0]).abs().max() < 0.1


def test_empty_batches_and_wrong_shapes():
    for lengths, size in (((0, 0), 0), ((0, 0), 4), ((), 4)):
        tensors, orders, n = inputs(lengths, size=size)
        found = with_gradients(block_attention, tensors, orders, n.long(), 8, SCALE)
        assert found[0].shape == tensors[0].shape and not any(part.any() for part in found)
    tensors, orders, lengths = inputs()
    with pytest.raises(ValueError, match="do not fit"):
        block_attention(*tensors, orders[:, :1], lengths, 8, SCALE)
    with pytest.raises(ValueError, match="blocks of 0"):
        block_attention(*tensors, orders, lengths, 0, SCALE)


def test_flex_path_gives_the_same():
    """The code of CUDA, uncompiled: forward only, since FlexAttention has no backward pass on a CPU."""
    for block in (8, 64):
        tensors, orders, lengths = inputs(dtype=torch.float32)
        found = flex_blocks(*tensors, orders, lengths, block, SCALE)
        assert torch.allclose(found, block_attention(*tensors, orders, lengths, block, SCALE), atol=2e-6)
        assert all(not found[event, :, n:].any() for event, n in enumerate(LENGTHS))


@pytest.mark.parametrize("shape", [None, (3, 1, 1, 50), (1, 2, 30, 50), (3, 2, 30, 50)], ids=str)
def test_attention_with_lse_is_softmax_and_logsumexp(shape):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, 16, generator=generator, dtype=torch.float64) for n in (30, 50, 50))
    mask = None if shape is None else torch.rand(shape, generator=generator) < 0.3
    if shape is not None:
        mask[0, 0, 0] = False
    allowed = torch.ones(1, 1, 1, 50, dtype=torch.bool) if mask is None else mask
    logits = (0.25 * q @ k.transpose(-1, -2)).masked_fill(~allowed, -torch.inf)
    expected = torch.nan_to_num(torch.softmax(logits, -1)) @ v
    out, lse = attention_with_lse(q, k, v, mask)
    assert torch.allclose(out, expected, atol=1e-12)
    assert torch.allclose(lse, torch.logsumexp(logits, -1), atol=1e-12)
    found = with_gradients(lambda *t: attention_with_lse(*t, mask)[0], (q, k, v))
    assert close(found, with_gradients(dense_masked, (q, k, v), allowed), 1e-11)


def dense_masked(q, k, v, allowed):
    alone = ~allowed.any(-1, keepdim=True)
    logits = (0.25 * q @ k.transpose(-1, -2)).masked_fill(~(allowed | alone), -torch.inf)
    return (torch.softmax(logits, -1) @ v).masked_fill(alone, 0.0)
