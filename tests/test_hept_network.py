"""The network of HEPTv2: size, formulas against slow twins, padding, order of hits, events side by side, gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toys import toy_event

from trackbench.trackers.layers import hept_encoder
from trackbench.trackers.layers.hept_batch import collate
from trackbench.trackers.layers.hept_config import HeptConfig
from trackbench.trackers.layers.hept_decoder import Attention, Level
from trackbench.trackers.layers.hept_encoder import HeptLayer, RMSNorm, SwiGLU
from trackbench.trackers.layers.hept_network import HeptNetwork

SMALL = {
    "inputs": "geometry", "width": 16, "heads": 2, "ffn": 24, "layers": 2, "position_hidden": 12, "embedding": 8,
    "embedding_hidden": 20, "embedding_layers": 2, "rounds": 2, "block": 12, "regions": 9, "n_queries": 9,
    "seed_neighbours": 2, "seed_similarity": 0.9, "queries": "seeded",
}  # fmt: skip
KINDS = {
    "learned": {"queries": "learned", "sectors": 1},
    "learned, three sectors, masked": {"queries": "learned", "sectors": 3, "masked_attention": True},
    "seeded": {"sectors": 1},
    "seeded, overlapping sectors": {"sectors": 2, "overlap": True},
    "seeded, masked": {"sectors": 2, "masked_attention": True},
    "curve": {"serialization": "hilbert", "queries": "none"},
}
DECODERS = [name for name in KINDS if name != "curve"]


def network_of(seed=0, **settings):
    """A network with weights that matter: masks do not start at zero, embeddings point everywhere."""
    torch.manual_seed(seed)
    network = HeptNetwork(HeptConfig(**{**SMALL, **settings})).eval()
    centre(network)
    if network.decoder is not None:
        with torch.no_grad():
            network.decoder.mask.down.weight.normal_(0, 0.5)
    return network


def centre(network):
    """Move the mean of the embedding before it gets length 1 to the origin."""
    last, found = network.encoder.embedding[-1], []
    hook = last.register_forward_hook(lambda *values: found.append(values[-1]))
    with torch.no_grad():
        network.encoder(collate(events(30), network.config.inputs))
        last.bias.sub_(found[0].mean((0, 1)))
    hook.remove()


def n_weights(module):
    return sum(weight.numel() for weight in module.parameters())


def events(*sizes):
    return [toy_event(n_tracks=n, n_noise=4, seed=n)[0] for n in sizes]


def outputs(network, hits, pad_to=None):
    """All real outputs of each event, as a list of dictionaries; logits are of the hits in the order of the event."""
    batch = collate(hits, network.config.inputs, pad_to)
    with torch.no_grad():
        encoded, decoded = network(batch)
    return [event_outputs(encoded, decoded, number, len(event)) for number, event in enumerate(hits)]


def event_outputs(encoded, decoded, number, n):
    found = {name: getattr(encoded, name)[number, :n] for name in encoded._fields}
    if decoded is None:
        return found
    groups = torch.nonzero(decoded.event == number).squeeze(1).tolist()
    for row, group in enumerate(groups):
        m, t = int(decoded.valid[group].sum()), int((decoded.places[group] >= 0).sum())
        assert decoded.valid[group, :m].all()
        assert (decoded.places[group, :t] >= 0).all()
        places, seeds = decoded.places[group, :t], decoded.seeds[group, :m]
        found[f"places {row}"], found[f"seeds {row}"] = places, seeds
        for level, (classes, queries) in enumerate(decoded.levels):
            found[f"classes {row} {level}"] = classes[group, :m]
            logits = torch.full((m, n), torch.nan)
            logits[:, places] = queries[group, :m] @ decoded.hits[group, :t].T + decoded.offset
            found[f"logits {row} {level}"] = logits
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-4, atol=2e-5, equal_nan=True, msg=lambda m, n=name: n + m
        )


def permuted(found, order):
    """What outputs should be after hit ``order[i]`` has moved to place i."""
    place = torch.argsort(order)
    moved = {}
    for name, value in found.items():
        if name.startswith("places"):
            moved[name] = place[value]
        elif name.startswith("logits"):
            moved[name] = value[:, order]
        else:
            moved[name] = value if name.startswith(("classes", "seeds")) else value[order]
    return moved


# Size


def test_published_size():
    """Of the published 2,268,244 weights 2,239,619 have an effect and are trained.

    The source counts 768,000 of the queries, 4 x 192,486 of the layers, 265,344 of the embedding head and 429,442 of
    the rest of the decoder. Of each layer 7,110 are without effect or frozen: relative positions (6,528), two tables of
    hashes (528 + 3 without effect, 48 + 3 frozen); and of the whole another 185: a linear map (129) and a threshold
    and a sharpness per layer (8) without effect, the table of regions (48), frozen.
    """
    network = HeptNetwork(HeptConfig())
    assert [n_weights(layer) for layer in network.encoder.layers] == [192_486 - 7_110] * 4
    assert n_weights(network.encoder.embedding) == 265_344
    assert n_weights(network.decoder.start) == 2 * 3000 * 128 == 768_000
    assert n_weights(network.decoder) - 768_000 == 429_442
    assert n_weights(network) == 2_268_244 - 4 * 7_110 - 185


def test_orders_are_no_weights():
    """The frozen vectors are saved, but not trained."""
    network = network_of()
    frozen = {name for name, _ in network.encoder.named_buffers()}
    assert frozen
    assert all(name.startswith("serialization.") for name in frozen)
    assert frozen <= set(network.encoder.state_dict())


# Formulas


def rms(x, weight):
    return weight * x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6)


def swiglu(module, x):
    gate = x @ module.gate.weight.T
    return (gate / (1 + torch.exp(-gate)) * (x @ module.up.weight.T)) @ module.down.weight.T


def naive_attention(q, k, v, heads, norms, seen=None):
    """Softmax over all keys, head after head. q: (M, W); k, v: (T, W); norms: weights of the norms per head."""
    size = q.shape[1] // heads
    parts = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        logits = rms(q[:, own], norms[0]) @ rms(k[:, own], norms[1]).T / math.sqrt(size)
        if seen is not None:
            logits = logits.masked_fill(~seen, -torch.inf)
        parts.append(torch.softmax(logits, dim=1) @ v[:, own])
    return torch.cat(parts, dim=1)


def randomise(module, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape) * 0.3)


def test_norm_in_low_precision_is_computed_in_full():
    norm = RMSNorm(64)
    x = (1000 * torch.randn(5, 64)).bfloat16()
    found = norm(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, rms(x.float(), norm.weight).bfloat16(), rtol=0.01, atol=0)
    assert norm(torch.zeros(1, 64)).tolist() == [[0.0] * 64]


def test_gradient_of_the_norm():
    """That of the formula, for values in any layout; the value does not depend on whether there is a gradient."""
    norm, x = RMSNorm(5), torch.randn(2, 5, 3, 4).transpose(1, 3).requires_grad_()  # (2, 4, 3, 5)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(5))
        alone = norm(x)
    grad = torch.randn(x.shape)
    found, expected = ((y, *torch.autograd.grad(y, (x, norm.weight), grad)) for y in (norm(x), rms(x, norm.weight)))
    assert torch.equal(found[0], alone)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_swiglu_equals_its_formula():
    module = SwiGLU(6, 10)
    x = torch.randn(4, 6)
    torch.testing.assert_close(module(x), swiglu(module, x))


def test_layer_in_one_block_equals_dense_attention():
    """A block of at least N hits and one round: the formulas of a transformer layer with the position left out of x."""
    config = HeptConfig(**{**SMALL, "rounds": 1, "block": 40})
    layer = HeptLayer(config)
    randomise(layer)
    x, positions = torch.randn(1, 33, 16), torch.randn(1, 33, 50)
    orders = torch.stack([torch.randperm(33), torch.randperm(33)])[None, :, None]
    found = layer(x, positions, orders, torch.tensor([33]))[0]
    x, part = x[0], layer.position
    pe = F.layer_norm(positions[0] @ part.input.weight.T + part.input.bias, (12,), part.norm.weight, part.norm.bias)
    pe = (pe * torch.sigmoid(pe)) @ part.output.weight.T + part.output.bias
    y = rms(x + pe, layer.norm1.weight)
    q, k, v = (y @ module.weight.T for module in (layer.query, layer.key, layer.value))
    attended = naive_attention(q, k, v, 2, (layer.query_norm.weight, layer.key_norm.weight))
    x = x + attended @ layer.out.weight.T + layer.out.bias
    x = x + swiglu(layer.feed_forward, rms(x, layer.norm2.weight))
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alike", [True, False])
def test_attention_equals_explicit_softmax(alike):
    """Two groups with masks of their own; those that are alike for all queries take another path."""
    attention = Attention(16, 2)
    randomise(attention)
    q, k, v = torch.randn(2, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    seen = torch.arange(9) < torch.tensor([[[7]], [[2]]]) if alike else torch.rand(2, 5, 9) > 0.5
    seen[..., 0] = True
    found = attention(q, k, v, seen)
    parts = zip((q, k, v), (attention.query, attention.key, attention.value), strict=True)
    q, k, v = (x @ part.weight.T + part.bias for x, part in parts)
    norms = (attention.query_norm.weight, attention.key_norm.weight)
    for group in range(2):
        expected = naive_attention(q[group], k[group], v[group], 2, norms, seen[group])
        expected = expected @ attention.out.weight.T + attention.out.bias
        torch.testing.assert_close(found[group], expected, rtol=1e-5, atol=1e-5)


def naive_levels(decoder, hits, content, position, seed=None, embedding=None):
    """Decoder of one sector without padding. Returns (classes, logits) of each level."""

    def attend(part, q, k, v):
        q, k, v = (
            x @ module.weight.T + module.bias
            for x, module in zip((q, k, v), (part.query, part.key, part.value), strict=True)
        )
        norms = (part.query_norm.weight, part.key_norm.weight)
        return naive_attention(q, k, v, part.heads, norms) @ part.out.weight.T + part.out.bias

    def heads(x):
        y = rms(x, decoder.norm.weight)
        mask = swiglu(decoder.mask, y)
        if seed is None:
            return decoder.classes(y), mask @ hits.T
        residual = decoder.residual
        learned = mask @ (hits @ residual.hit.weight.T).T / math.sqrt(hits.shape[1])
        return decoder.classes(y), residual.scale * (seed @ embedding.T - residual.cut) + learned

    x = content
    levels = [heads(x)]
    for layer in decoder.layers:
        x = x + attend(layer.cross_attention, rms(x, layer.norm1.weight) + position, hits, hits)
        y = rms(x, layer.norm2.weight)
        x = x + attend(layer.self_attention, y + position, y + position, y)
        x = x + swiglu(layer.feed_forward, rms(x, layer.norm3.weight))
        levels.append(heads(x))
    return levels


@pytest.mark.parametrize("queries", ["learned", "seeded"])
def test_decoder_equals_its_formulas(queries):
    network = network_of(queries=queries, sectors=1)
    randomise(network.decoder)
    batch = collate(events(9), "geometry")
    with torch.no_grad():
        encoded, decoded = network(batch)
        places = decoded.places[0]
        hits, embedding = encoded.hits[0, places], encoded.embedding[0, places]
        start = network.decoder.start
        if queries == "learned":
            expected = naive_levels(network.decoder, hits, start.content, start.position)
        else:
            seeds = decoded.seeds[0]
            assert len(seeds) > 3
            positions = start.position(batch.positions[0, places[seeds]])
            content = start.content(hits[seeds])
            expected = naive_levels(network.decoder, hits, content, positions, embedding[seeds], embedding)
    assert len(decoded.levels) == network.config.decoder_layers + 1 == len(expected)
    for level, (classes, logits) in zip(decoded.levels, expected, strict=True):
        torch.testing.assert_close(level.classes[0], classes, rtol=1e-4, atol=1e-4)
        found = level.queries[0] @ decoded.hits[0].T + decoded.offset
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)


def test_masks_start_as_likeness_to_the_seed():
    """Before training: logit = 10 (cosine - 0.8) at every level, whatever the other weights are."""
    torch.manual_seed(0)
    network = HeptNetwork(HeptConfig(**{**SMALL, "sectors": 1}))
    centre(network)
    with torch.no_grad():
        encoded, decoded = network(collate(events(9), "geometry"))
    embedding = encoded.embedding[0, decoded.places[0]]
    assert len(decoded.seeds[0]) > 1
    for level in decoded.levels:
        found = level.queries[0] @ decoded.hits[0].T + decoded.offset
        torch.testing.assert_close(found, 10 * (embedding[decoded.seeds[0]] @ embedding.T - 0.8), rtol=0, atol=1e-4)


def test_masked_attention_sees_the_previous_mask():
    decoder = network_of(masked_attention=True, queries="learned").decoder
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]])
    hits = torch.tensor([[[1.0, -1.0], [0.0, -1.0], [-1.0, 2.0], [5.0, 5.0]]])
    sees = torch.tensor([[[True, True, True, False]]])  # the last hit is padding
    found = decoder._seen(Level(torch.zeros(1, 3, 2), queries), hits, sees)[0].tolist()
    # Logits 1, 0, -1; -1, -1, 2; 0, 1, -1. An empty mask would see everything real:
    assert found == [[True, True, False, False], [False, False, True, False], [True, True, False, False]]
    found = decoder._seen(Level(torch.zeros(1, 3, 2), queries), -hits.abs() - 1, sees)[0]
    assert found[:2].tolist() == [[True, True, True, False]] * 2


def test_masked_attention_changes_later_levels_only():
    """Against the same network without it, and a query's later levels do not depend on hits outside its masks."""
    masked, plain = (network_of(masked_attention=on, queries="learned", sectors=1) for on in (True, False))
    found, other = outputs(masked, events(9))[0], outputs(plain, events(9))[0]
    assert torch.equal(found["logits 0 0"], other["logits 0 0"])
    assert not torch.allclose(found["logits 0 1"], other["logits 0 1"], atol=1e-3)


# Padding, order, batches


@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_changes_nothing(kind):
    network = network_of(**KINDS[kind])
    hits = events(12)
    expected, found = outputs(network, hits)[0], outputs(network, hits, pad_to=len(hits[0]) + 37)[0]
    assert_same(found, expected)


@pytest.mark.parametrize("kind", DECODERS)
def test_values_in_the_padding_change_nothing(kind):
    network = network_of(**KINDS[kind])
    n = len(events(12)[0])
    batch = collate(events(12), "geometry", pad_to=n + 9)
    other = replace(batch, **{name: getattr(batch, name).clone() for name in ("features", "positions", "angles")})
    for part in (other.features, other.positions, other.angles):
        part[0, n:] = 3.0
    with torch.no_grad():
        found, expected = (event_outputs(*network(part), 0, n) for part in (batch, other))
    assert_same(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_hits_give_permuted_outputs(kind):
    network = network_of(**KINDS[kind])
    (hits,) = events(12)
    order = np.random.default_rng(0).permutation(len(hits))
    expected = permuted(outputs(network, [hits])[0], torch.from_numpy(order))
    assert_same(outputs(network, [hits.take(order)])[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_events_side_by_side_equal_each_alone(kind):
    network = network_of(**KINDS[kind])
    hits = events(12, 5)
    both = outputs(network, hits)
    for event, found in zip(hits, both, strict=True):
        assert_same(found, outputs(network, [event])[0])


def test_toy_events_have_seeds():
    """What the tests above compare is not empty: several seeds in each sector of both events."""
    for settings in (KINDS["seeded"], KINDS["seeded, overlapping sectors"]):
        for found in outputs(network_of(**settings), events(12, 5)):
            n_seeds = [len(value) for name, value in found.items() if name.startswith("seeds")]
            assert min(n_seeds) >= 2


# Extremes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["one hit", "equal hits", "no hit"])
def test_extreme_events_are_finite(kind, case):
    (hits,) = events(5)
    chosen = {"one hit": [0], "equal hits": [3] * 20, "no hit": []}[case]
    network = network_of(**KINDS[kind]).train()
    encoded, decoded = network(collate([hits.take(np.array(chosen, int)), hits], "geometry"))
    assert_finite(network, encoded, decoded)
    if case == "equal hits":
        torch.testing.assert_close(encoded.embedding[0, :20], encoded.embedding[0, :1].expand(20, -1))


def assert_finite(network, encoded, decoded):
    """All outputs, also in the padding, and the gradients of their sum."""
    values = [*encoded]
    if decoded is not None:
        values += [*(value for level in decoded.levels for value in level), decoded.hits, decoded.offset]
    assert all(value.isfinite().all() for value in values)
    sum(value.sum() for value in values).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize("kind", DECODERS)
def test_no_event_at_all(kind):
    encoded, decoded = network_of(**KINDS[kind])(collate([], "geometry"))
    assert encoded.hits.shape == (0, 1, 16)
    assert decoded.levels[-1].classes.shape[0] == len(decoded.event) == 0


def test_event_without_a_seed():
    network = network_of(seed_neighbours=10_000).train()
    encoded, decoded = network(collate(events(5, 9), "geometry"))
    assert decoded.valid.shape == (2 * network.config.sectors, 1)
    assert not decoded.valid.any()
    assert (decoded.seeds == -1).all()
    assert_finite(network, encoded, decoded)


def test_without_decoder():
    batch = collate(events(5), "geometry")
    assert network_of(queries="none")(batch)[1] is None
    assert network_of()(batch, decode=False)[1] is None
    torch.testing.assert_close(
        network_of(queries="none")(batch)[0].embedding.norm(dim=-1)[0], torch.ones(len(batch.features[0]))
    )


def test_decoded_shapes():
    """Two events, three sectors and three windows: groups of one event after those of the other."""
    network = network_of(queries="learned", sectors=3, overlap=True)
    batch = collate(events(5, 12), "geometry")
    _, decoded = network(batch)
    size = -(-batch.features.shape[1] // 3)
    assert decoded.event.tolist() == [0] * 6 + [1] * 6
    assert decoded.places.shape == (12, size)
    assert decoded.hits.shape == (12, size, 16)
    assert decoded.valid.shape == decoded.seeds.shape == (12, 9)
    assert decoded.offset.shape == ()
    assert [(level.classes.shape, level.queries.shape) for level in decoded.levels] == [((12, 9, 2), (12, 9, 16))] * 3


# Gradients


def gradients(network):
    encoded, decoded = network(collate(events(12, 9), "geometry"))
    generator = torch.Generator().manual_seed(0)
    values = [*encoded]
    if decoded is not None:
        logits = (level.queries @ decoded.hits.mT + decoded.offset for level in decoded.levels)
        values += [*(level.classes for level in decoded.levels), *logits]
    sum((value * torch.randn(value.shape, generator=generator)).sum() for value in values).backward()
    return {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_all_weights(kind):
    assert gradients(network_of(**KINDS[kind]).train()) == set()


def test_zero_masks_are_left_after_one_step():
    """At the start of training the zero of the last mask layer holds up the weights on both sides of it, no others."""
    torch.manual_seed(0)
    network = HeptNetwork(HeptConfig(**SMALL))
    centre(network)
    held = {"decoder.mask.gate.weight", "decoder.mask.up.weight", "decoder.residual.hit.weight"}
    assert gradients(network) == held
    with torch.no_grad():
        network.decoder.mask.down.weight.sub_(0.01 * network.decoder.mask.down.weight.grad)
    network.zero_grad()
    assert gradients(network) == set()


# Precision


@pytest.mark.parametrize("kind", ["learned", "seeded"])
def test_low_precision_leaves_in_full(kind):
    """bfloat16 in between: everything handed on but the encoded hits is float32 and near the full result."""
    network = network_of(**KINDS[kind])
    batch = collate(events(12), "geometry")
    with torch.no_grad():
        expected, _ = network(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            encoded, decoded = network(batch)
    assert encoded.classifier.dtype == encoded.embedding.dtype == decoded.hits.dtype == torch.float32
    assert all(value.dtype == torch.float32 for level in decoded.levels for value in level)
    assert (encoded.embedding * expected.embedding).sum(-1).min() > 0.99
    torch.testing.assert_close(encoded.embedding.norm(dim=-1), torch.ones(1, len(batch.features[0])))


def test_same_seed_same_weights():
    first, second = (network_of(seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_hits_part_by_part_are_the_same(monkeypatch):
    """What a CPU does without gradients, in parts smaller than the events."""
    network = network_of(**KINDS["learned"])
    batch = collate(events(9, 4), "geometry")
    with torch.no_grad():
        whole = network(batch)[0]
        monkeypatch.setattr(hept_encoder, "_PART", 7)
        parts = network(batch)[0]
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    found = hept_encoder.in_parts(lambda x, y: (x + y, x.sum(-1)), torch.ones(2, 20, 3), torch.ones(2, 20, 3))
    assert [part.shape for part in found] == [(2, 20, 3), (2, 20)]
