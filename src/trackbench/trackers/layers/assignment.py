"""Labels of hits from the masks of a decoder: score, arg max over the queries, windows joined.

score(query, hit) = min(mask logit, 0) + 0.5 log p_track(query): the published rule of HEPTv2 (``infer.yaml`` of
Graph-COM/HEPTv2). Differs from it in: fp32 on a CPU, no stored matrix of logits, and overlapping windows.
"""

import numpy as np
import torch
from torch import Tensor

from trackbench.trackers.layers.hept_batch import HeptBatch
from trackbench.trackers.layers.hept_decoder import START_CUT, START_SCALE, Decoded, Level
from trackbench.trackers.layers.hept_encoder import Encoded
from trackbench.trackers.layers.hept_network import HeptNetwork
from trackbench.trackers.layers.hept_queries import choose_seeds, take
from trackbench.trackers.layers.hept_sectors import sector_places

TRACK_WEIGHT = 0.5  # of log p_track in the score
CHUNK = 256  # queries whose logits exist at once
_CPU_HITS = 256  # hits of such a tile on a CPU, so that it stays in its cache


def assign(decoded: Decoded, n_hits: tuple[int, ...], cut: float, chunk: int = CHUNK) -> list[np.ndarray]:
    """Give each hit the query of the highest score.

    decoded: of a network, for a batch of events
    n_hits: real hits of each event of the batch
    cut: a hit with a lower score stays unassigned, and so does one in a window without queries
    chunk: queries whose logits exist at once; changes memory only
    Returns per event (n,) int64: window of the event * M + query, -1 = unassigned; M queries a window. Of equal scores
    the first query wins.
    Where windows overlap (a hit is in two at most), a hit takes its label from the window in whose middle it is, the
    earlier one of equals. Candidates of two windows are one if they share more than half of the hits of the smaller,
    all hits its window gave it counted; what is linked this way, also through a third one, is united and keeps the
    smallest label. Cost O(M T D) for T hits of width D in each window, O(chunk T) memory.
    """
    score, query = best_queries(decoded, chunk)
    query = torch.where((score >= cut) & (score > -torch.inf), query, -1).cpu().numpy()
    places, event = decoded.places.cpu().numpy(), decoded.event.cpu().numpy()
    labels = []
    for number, n in enumerate(n_hits):
        rows = np.flatnonzero(event == number)
        labels.append(window_labels(places[rows], query[rows], decoded.valid.shape[1], n))
    return labels


def best_queries(decoded: Decoded, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Find the query of the highest score for each hit, from the last masks of the decoder.

    decoded: see ``assign``
    Returns scores (G, T) float32, -inf where there is no query, and queries (G, T) int64, 0 there.
    On a CPU all is done in fp32, elsewhere the logits have the precision of the decoder.
    """
    level, hits = decoded.levels[-1], decoded.hits
    device = hits.device.type
    dtype = torch.float32 if device == "cpu" else hits.dtype  # half precision is emulated on most CPUs, and slow
    used = decoded.valid.any(0).nonzero()
    n_used = int(used[-1]) + 1 if len(used) else 0
    with torch.autocast(device, enabled=False):
        queries, hits = level.queries[:, :n_used].to(dtype), hits.to(dtype)
        track = TRACK_WEIGHT * torch.log_softmax(level.classes[:, :n_used].float(), dim=-1)[..., 0]
        track = track.masked_fill(~decoded.valid[:, :n_used], -torch.inf)[..., None]
        size = _CPU_HITS if device == "cpu" else max(hits.shape[1], 1)
        parts = [_best_of(queries, part, track, decoded.offset, chunk) for part in hits.split(size, dim=1)]
    return torch.cat([score for score, _ in parts], 1), torch.cat([query for _, query in parts], 1)


def _best_of(queries: Tensor, hits: Tensor, track: Tensor, offset: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Best score and query (G, t) of some hits (G, t, D), chunk by chunk of queries. track: (G, M, 1)."""
    score = torch.full(hits.shape[:2], -torch.inf, device=hits.device)
    query = torch.zeros(hits.shape[:2], dtype=torch.int64, device=hits.device)
    across = hits.transpose(1, 2)
    for first in range(0, queries.shape[1], chunk):
        rows = slice(first, first + chunk)
        logits = (queries[:, rows] @ across).float()
        best, at = logits.add_(offset).clamp_(max=0.0).add_(track[:, rows]).max(dim=1)
        better = best > score
        score = torch.where(better, best, score)
        query = torch.where(better, at + first, query)
    return score, query


def assign_to_seeds(
    network: HeptNetwork, batch: HeptBatch, encoded: Encoded, cut: float, chunk: int = CHUNK
) -> list[np.ndarray]:
    """Give each hit the seed it is most like, without the decoder.

    network: gives sectors and what a seed is (of its settings, whatever its queries), and s and t of the residual
        masks, 10 and 0.8 unless it has trained ones
    encoded: what the network made of the batch; cut: hits with min(s (cosine - t), 0) below stay unassigned
    Returns labels per event as ``assign`` does, with as many queries as the window with most seeds has.
    """
    config, decoder = network.config, network.decoder
    places = sector_places(batch.angles, batch.valid, config.sectors, config.overlap)
    event = torch.arange(len(places), device=places.device).repeat_interleave(places.shape[1])
    flat = places.flatten(1)
    embedding = take(encoded.embedding, flat).reshape(*places.shape, -1).flatten(0, 1)
    places = places.flatten(0, 1)
    seeds = choose_seeds(embedding, places >= 0, config.seed_similarity, config.seed_neighbours, config.n_queries)
    residual = None if decoder is None else decoder.residual
    scale, threshold = (START_SCALE, START_CUT) if residual is None else (residual.scale.item(), residual.cut.item())
    # With s (cosine - 1) as the logit nothing is clamped, so the most similar seed wins above t too.
    classes = torch.tensor([0.0, -torch.inf], device=places.device).expand(*seeds.shape, 2)
    level = Level(classes, scale * take(embedding, seeds))
    offset = torch.tensor(-scale, device=places.device)
    likeness = Decoded((level,), embedding, offset, seeds >= 0, places, event, seeds)
    return assign(likeness, tuple(batch.lengths.tolist()), min(cut, 0.0) - scale * (1.0 - threshold), chunk)


def window_labels(places: np.ndarray, query: np.ndarray, n_queries: int, n_hits: int) -> np.ndarray:
    """Bring labels of the windows of one event together; see ``assign``.

    places: (W, T) int64, hit of each place of each window, in the order of azimuth, -1 = none
    query: (W, T) int64, below ``n_queries``, -1 = unassigned
    Returns (n_hits,) int64.
    """
    window, column = np.nonzero(places >= 0)
    hit = places[window, column]
    found = query[window, column]
    found = np.where(found >= 0, found + window * n_queries, -1)
    labels = np.full(n_hits, -1, dtype=np.int64)
    if len(np.unique(hit)) == len(hit):
        labels[hit] = found
        return labels
    rank = np.cumsum(places >= 0, axis=1)[window, column] - 1
    length = (places >= 0).sum(axis=1)[window]
    off_centre = np.abs(2 * rank + 1 - length) / length
    order = np.lexsort((window, off_centre, hit))
    hit, found = hit[order], found[order]
    again = np.append(False, hit[1:] == hit[:-1])
    labels[hit[~again]] = found[~again]
    return _united(labels, found, np.flatnonzero(again))


def _united(labels: np.ndarray, found: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Give candidates that are mostly the same hits one label.

    labels: (n,) of the hits; found: (m,) of the hits of all windows; again: rows of ``found`` whose hit is that of the
    row before
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number, dense, size = np.unique(found[found >= 0], return_inverse=True, return_counts=True)
    row = np.full(len(found), -1, dtype=np.int64)
    row[found >= 0] = dense
    first, second = row[again - 1], row[again]
    both = (first >= 0) & (second >= 0)
    width = max(len(number), 1)
    low, high = np.minimum(first, second)[both], np.maximum(first, second)[both]
    pairs, shared = np.unique(low * width + high, return_counts=True)
    a, b = np.divmod(pairs, width)
    linked = 2 * shared > np.minimum(size[a], size[b])
    links = coo_array((np.ones(linked.sum()), (a[linked], b[linked])), shape=(len(number), len(number)))
    n_parts, part = connected_components(links, directed=False)
    smallest = np.full(n_parts, np.iinfo(np.int64).max)
    np.minimum.at(smallest, part, number)
    assigned = labels >= 0
    labels[assigned] = smallest[part[np.searchsorted(number, labels[assigned])]]
    return labels
