"""Candidates and the embedding of their hits: fragments join what they resemble, hits move to the nearest centre.

Source: section "post-processing" of HEPTv2 (Graph-COM/HEPTv2, ``infer.yaml``), own code. Differs from it in: chains of
merged fragments of any length, where it follows sixteen links, and k-means moves only assigned hits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

_CHUNK = 1 << 22  # cosines that exist at once


@dataclass(frozen=True)
class Merging:
    """Which candidates are merged; the defaults are the published ones.

    small: most hits of a fragment that joins another candidate
    target: most hits of a candidate that fragments join
    size: most hits of the result
    cosine: smallest cosine between the centroids
    """

    small: int = 2
    target: int = 9
    size: int = 10
    cosine: float = 0.68


def merge_fragments(embedding: Tensor, labels: Tensor, how: Merging | None = None) -> Tensor:
    """Let small candidates join the most similar ones.

    embedding: (n, E) float, unit length; labels: (n,) int64, negative = unassigned
    A fragment joins the candidate with the most similar centroid (direction of the sum of its hits) among those that
    are large enough: more hits, or equally many and a smaller label, so nothing goes in circles. Fragments may join
    one after the other; what becomes larger than ``how.size`` is taken apart again.
    Returns (n,) int64: each candidate has the label of the last one joined. Cost O(f k E) for f fragments among k.
    """
    how = how or Merging()
    assigned = labels >= 0
    if not assigned.any():
        return labels.clone()
    number, own, count = labels[assigned].unique(return_inverse=True, return_counts=True)
    centroid = _centroids(embedding[assigned].float(), own, count)
    parent = torch.arange(len(number), device=labels.device)
    rows = (count <= how.small).nonzero()[:, 0]
    for part in rows.split(_rows_at_once(len(number))):
        mine = count[part, None]
        allowed = (count > mine) | ((count == mine) & (torch.arange(len(number), device=labels.device) < part[:, None]))
        allowed &= (count <= how.target) & (count + mine <= how.size)
        cosine = (centroid[part] @ centroid.T).masked_fill_(~allowed, -torch.inf)
        best, at = cosine.max(dim=1)
        parent[part] = torch.where(best >= how.cosine, at, part)
    root = _roots(parent)
    total = torch.zeros_like(count).index_add_(0, root, count)
    root = torch.where(total[root] > how.size, torch.arange(len(number), device=labels.device), root)
    merged = labels.clone()
    merged[assigned] = number[root[own]]
    return merged


def spherical_kmeans(embedding: Tensor, labels: Tensor, iterations: int) -> Tensor:
    """Move each assigned hit to the candidate with the most similar centroid, several times.

    embedding, labels: as for ``merge_fragments``; iterations: >= 0
    Centroids are found anew from the hits each time; that of a candidate without hits stays what it was.
    Returns (n,) int64; unassigned hits stay so. Cost O(iterations n k E) for k candidates.
    Source: Dhillon and Modha, Machine Learning 42 (2001) 143.
    """
    assigned = labels >= 0
    if not assigned.any():
        return labels.clone()
    number, own, count = labels[assigned].unique(return_inverse=True, return_counts=True)
    points = embedding[assigned].float()
    centroid = torch.zeros(len(number), points.shape[1], device=points.device)
    for _ in range(iterations):
        centroid = torch.where(count[:, None] > 0, _centroids(points, own, count), centroid)
        parts = points.split(_rows_at_once(len(number)))
        own = torch.cat([(part @ centroid.T).argmax(dim=1) for part in parts])
        count = torch.bincount(own, minlength=len(number))
    moved = labels.clone()
    moved[assigned] = number[own]
    return moved


def _centroids(points: Tensor, own: Tensor, count: Tensor) -> Tensor:
    """Unit vector along the sum of each candidate's hits, (k, E), 0 where there is none; same sums each time."""
    order = own.argsort(stable=True)
    return normalize(torch.segment_reduce(points[order], "sum", lengths=count, axis=0), dim=1)


def _roots(parent: Tensor) -> Tensor:
    """The end of each chain, by pointer jumping: log2 of the longest one turns."""
    while True:
        further = parent[parent]
        if torch.equal(further, parent):
            return parent
        parent = further


def _rows_at_once(n_columns: int) -> int:
    return max(_CHUNK // max(n_columns, 1), 1)
