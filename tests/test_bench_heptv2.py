"""The peer of benchmarks/bench_heptv2.py is no straw man: where no padding is, it computes what our network does."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from toys import toy_event

torch = pytest.importorskip("torch")

from trackbench.data.hits import CELL_FEATURES  # noqa: E402
from trackbench.trackers.layers.assignment import assign  # noqa: E402
from trackbench.trackers.layers.hept_batch import collate  # noqa: E402
from trackbench.trackers.layers.hept_config import HeptConfig  # noqa: E402
from trackbench.trackers.layers.hept_network import HeptNetwork  # noqa: E402

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = HeptConfig(
    width=32, heads=4, ffn=32, layers=2, position_hidden=24, embedding=8, embedding_hidden=16, embedding_layers=2,
    rounds=3, block=32, regions=9, sectors=3, n_queries=20,
)  # fmt: skip


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event_of(n_hits, seed=3):
    hits, _ = toy_event(n_tracks=40, n_noise=60, seed=seed)
    hits = hits.take(torch.arange(n_hits).numpy())
    rng = torch.Generator().manual_seed(seed)
    cells = {name: torch.randn(n_hits, generator=rng).double().numpy() for name in CELL_FEATURES}
    return replace(hits, features=cells)


def both(n_hits):
    """Our outputs and the peer's for one event, keys in float64 as ours are."""
    peer = script("published_design")
    torch.manual_seed(1)
    network = HeptNetwork(SMALL).eval()
    batch = collate([event_of(n_hits)], "published")
    with torch.inference_mode():
        encoded, decoded = network(batch)
        event = peer.pad(batch, SMALL.block)
        hits, classifier, embedding = peer.encode(network, event, torch.float64)
        found = peer.decode(network, event, hits)
        labels = assign(decoded, (n_hits,), -5.4)[0], peer.assign(found, event, -5.4).numpy()
    ours = (encoded.hits[0], encoded.classifier[0], encoded.embedding[0])
    return ours, (hits, classifier, embedding), (decoded, found), labels


def test_without_padding_the_peer_is_our_network():
    """192 hits: six blocks of 32, three sectors of 64."""
    ours, theirs, (decoded, found), labels = both(192)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoded.levels[-1].classes, found.classes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoded.levels[-1].queries, found.masks, rtol=1e-4, atol=1e-4)
    assert torch.equal(decoded.places, found.places)
    assert (labels[0] == labels[1]).mean() > 0.99 and (labels[0] >= 0).any()


def test_with_padding_it_is_not():
    """180 hits are padded to 192, and the padding takes part: the flaw that the source has and ours must not."""
    ours, theirs, _, _ = both(180)
    assert not torch.allclose(ours[0], theirs[0][:180], rtol=1e-2, atol=1e-3)


def test_the_page_shows_the_record():
    page = (BENCHMARKS.parent / "docs/heptv2.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- cost -->\n")[2].partition("\n<!-- /cost -->")[0]
    assert shown == script("table").hept_cost_table()


def test_the_record_is_at_most_half_of_what_is_quoted():
    """And well below the peer of the same run."""
    record = script("table").read("heptv2")
    assert record["precision"] == "float32" and record["threads"] == 1
    results = {result["n_hits"]: result for result in record["results"]}
    assert results.keys() == {4998, 19999, 60000}
    for n_hits, quoted in ((4998, 4.2), (19999, 14.0)):
        assert results[n_hits]["cpu_s"]["ours"]["total"]["median"] <= quoted / 2
    assert all(result["ours_over_peer"]["median"] <= 0.6 for result in results.values())
