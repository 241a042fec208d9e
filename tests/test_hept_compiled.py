"""Padding buckets, and HEPTv2 with compiled parts: torch's tracing on a CPU, the code generator is that of CUDA."""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from toys import toy_event

from trackbench.errors import ConfigError, InputError
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers import hept_buckets
from trackbench.trackers.layers.block_attention import block_attention
from trackbench.trackers.layers.block_flex import flex_with_lse
from trackbench.trackers.layers.flex_blocks import ladder
from trackbench.trackers.layers.hept_batch import collate
from trackbench.trackers.layers.hept_buckets import BUCKETS, LARGEST, bucket
from trackbench.trackers.layers.hept_compiled import QUERY_STEP, CompiledHept
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.weights import save_weights

SMALL = {
    **{"inputs": "geometry", "width": 16, "heads": 1, "ffn": 16, "layers": 2, "position_hidden": 16, "embedding": 8},
    **{"embedding_hidden": 16, "embedding_layers": 1, "rounds": 2, "block": 64, "regions": 0, "decoder_layers": 1},
    **{"sectors": 2, "n_queries": 40, "seed_similarity": 0.9},
}
KINDS = {"learned": {"queries": "learned"}, "seeded": {"queries": "seeded"}, "encoder": {"queries": "none"}}
KINDS["masked"] = {"queries": "seeded", "masked_attention": True, "overlap": True}


@pytest.fixture(autouse=True)
def fresh():
    """Nothing compiled is left for the next test."""
    torch.set_num_threads(1)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network_of(kind, seed=0):
    torch.manual_seed(seed)
    return HeptNetwork(HeptConfig(**SMALL, **KINDS[kind])).eval()


def event(n_tracks=30, seed=4):
    hits = toy_event(n_tracks=n_tracks, n_noise=20, seed=seed)[0]
    return hits.take(np.argsort(hits.hit_id))


# Buckets


def test_buckets_are_few_and_blocks_are_whole_parts_of_them():
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert all(size % 4096 == 0 for size in BUCKETS)
    assert BUCKETS[0] == 4096 and BUCKETS[-1] == LARGEST
    assert sum(size <= 77_824 for size in BUCKETS) <= 19  # as many as the published 4,092 to 77,748
    # FlexAttention adds no further padding to a bucket.
    assert all(ladder(size // block) * block == size for size in BUCKETS for block in (64, 256, 1024))


@pytest.mark.parametrize("n", [0, 1, 4095, 4096, 4097, 60_000, 65_536, 65_537, 123_456, 300_000, 500_000, LARGEST])
def test_a_bucket_is_the_smallest_that_holds_the_event(n):
    size = bucket(n)
    assert size in BUCKETS and size >= n
    assert not any(n <= other < size for other in BUCKETS)
    assert size - n <= max(4096, n / 8)


def test_an_event_longer_than_the_largest_bucket_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"event 7: 524289 hits, expected at most 524288.*compiled to false"):
        bucket(LARGEST + 1, "event 7")
    monkeypatch.setattr(hept_buckets, "LARGEST", 50)
    hits = event()
    with pytest.raises(InputError, match=f"event {hits.event_id}: {len(hits)} hits, expected at most 50"):
        compiled_tracker(tmp_path, "seeded").reconstruct(hits)


def test_a_ladder_has_eight_steps_per_octave():
    assert [ladder(n) for n in (0, 1, 7, 8, 15, 16, 17, 63, 65, 100)] == [0, 1, 7, 8, 15, 16, 18, 64, 72, 104]
    assert len({ladder(n) for n in range(1024, 2048)}) == 9  # both ends of the octave


# FlexAttention, the path of CUDA, uncompiled


def test_flex_attention_equals_explicit_softmax():
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 2, 5, 4, generator=generator) for _ in range(3))
    mask = torch.rand(2, 1, 1, 5, generator=generator) > 0.4
    mask[..., 0] = True
    out, lse = flex_with_lse(q, k, v, mask, 0.3, compiled=False)
    logits = (0.3 * q @ k.mT).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(out, logits.softmax(-1) @ v)
    torch.testing.assert_close(lse, logits.logsumexp(-1))


def test_traced_block_attention_equals_that_of_the_cpu():
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, 2, 50, 8, generator=generator) for _ in range(3))
    lengths = torch.tensor([50, 37])
    padding = torch.arange(37, 50)
    whole = [torch.randperm(50, generator=generator) for _ in range(6)]
    short = [torch.cat((torch.randperm(37, generator=generator), padding)) for _ in range(6)]
    orders = torch.stack(whole + short).view(2, 2, 3, 50)
    traced = torch.compile(block_attention, backend="eager", fullgraph=True, dynamic=False)
    found = traced(q, k, v, orders, lengths, 16, 0.35)
    torch.testing.assert_close(found, block_attention(q, k, v, orders, lengths, 16, 0.35), atol=2e-6, rtol=1e-5)


# The network


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("half", [False, True])
def test_compiled_parts_are_whole_graphs_and_give_the_same(kind, half):
    network, hits = network_of(kind), event()
    batch = collate([hits], "geometry", 512)
    compiled = CompiledHept(network, "eager")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        expected, decoded = network(batch)
        found, again = compiled(batch)
    close = {"atol": 0.05, "rtol": 0.05} if half else {"atol": 1e-5, "rtol": 1e-4}
    n = len(hits)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[:, :n].float(), other[:, :n].float(), **close)
    if kind == "encoder":
        assert decoded is again is None
        return
    if half:  # seeds may differ where values are rounded
        return
    m = decoded.valid.shape[1]
    assert again.valid.shape[1] % QUERY_STEP == 0
    assert not again.valid[:, m:].any()
    torch.testing.assert_close(again.valid[:, :m], decoded.valid)
    torch.testing.assert_close(again.seeds[:, :m], decoded.seeds)
    valid = decoded.valid
    for one, other in zip(again.levels, decoded.levels, strict=True):
        torch.testing.assert_close(one.queries[:, :m][valid], other.queries[valid], **close)
        torch.testing.assert_close(one.classes[:, :m][valid], other.classes[valid], **close)


def test_events_of_one_bucket_share_what_is_compiled():
    network, counter = network_of("seeded"), CompileCounter()
    compiled = CompiledHept(network, counter)
    with torch.inference_mode():
        for n_tracks in (10, 20, 30):
            compiled(collate([event(n_tracks, n_tracks)], "geometry", 512))
        assert counter.frame_count == 2  # encoder and decoder, once each
        compiled(collate([event()], "geometry", 1024))
    assert counter.frame_count == 4


def test_the_limit_of_torch_on_compilations_is_lifted():
    compiled = CompiledHept(network_of("encoder"), "eager")
    with torch.inference_mode(), torch._dynamo.config.patch(recompile_limit=1):
        for size in (256, 320):
            compiled(collate([event(10)], "geometry", size))


def test_orders_are_the_same_in_low_precision():
    network, batch = network_of("encoder"), collate([event()], "geometry")
    expected = network.encoder.orders(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.encoder.orders(batch), expected)


# The tracker


def tracker_of(tmp_path, kind, **settings):
    path = tmp_path / f"{kind}.pt"
    save_weights(path, "heptv2", network_of(kind), {})
    return build_tracker("heptv2", {"checkpoint": str(path), "device": "cpu", "cut": -50.0, **settings})


def compiled_tracker(tmp_path, kind, **settings):
    """The tracker with the tracing of torch alone, which a CPU can do, in place of its code generator."""
    tracker = tracker_of(tmp_path, kind, compiled=True, **settings)
    tracker.__dict__["applied"] = CompiledHept(tracker.network, "eager")
    return tracker


@pytest.mark.parametrize(("kind", "method"), [("learned", "masks"), ("seeded", "masks"), ("seeded", "seeds")])
def test_the_compiled_tracker_gives_the_same_tracks(tmp_path, kind, method):
    hits = event()
    plain = tracker_of(tmp_path, kind, method=method).reconstruct(hits)
    tracker = compiled_tracker(tmp_path, kind, method=method)
    assert tracker.collate(hits).features.shape[1] == 4096
    np.testing.assert_array_equal(tracker.reconstruct(hits), plain)
    assert len(np.unique(plain)) >= 2


def test_a_cpu_does_not_compile(tmp_path):
    with pytest.raises(ConfigError, match=r"trackers.heptv2.compiled: value true on a CPU"):
        tracker_of(tmp_path, "seeded", compiled=True).reconstruct(event())


def test_precision_is_that_of_the_products(tmp_path):
    hits = event()
    from trackbench.trackers.base import Timer

    full, half = (tracker_of(tmp_path, "seeded", precision=name) for name in ("float32", "bfloat16"))
    assert (full.precision, half.precision) == ("float32", "bfloat16")
    found = half.assign(hits, Timer()).embedding
    expected = full.assign(hits, Timer()).embedding
    assert found.dtype == torch.float32
    difference = (found - expected).abs().max()
    assert 1e-5 < difference < 0.05
    with pytest.raises(ConfigError, match=r"precision: value 'float16'"):
        tracker_of(tmp_path, "seeded", precision="float16")
