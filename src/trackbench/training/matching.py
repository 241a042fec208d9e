"""Which query learns which track: the assignment of least total cost, per group of a decoder.

Source: HEPTv2 (arXiv:2606.20437), in the line of DETR (arXiv:2005.12872). Differs from it in: the match of the last
level holds for all levels; queries that no track can want are left out before solving, which changes no total cost.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trackbench.errors import describe
from trackbench.training.hept_config import HeptLossConfig
from trackbench.training.mask_losses import dice, member_sums

if TYPE_CHECKING:
    from trackbench.trackers.layers.hept_decoder import Decoded

logger = logging.getLogger(__name__)

_AT_ONCE = 2**22  # mask logits held at once
_WORTH_A_THREAD = 2**17  # entries of a cost matrix, about 10 ms of solving


class Tracks(NamedTuple):
    """The T tracks of one group, by number of particle.

    n_hits: real hits of the group, which come first
    places, there: (T, L) int64 and bool, places in the group of the hits of each track, and which of them exist
    """

    n_hits: int
    places: Tensor
    there: Tensor


class Match(NamedTuple):
    """Matched pairs of one group: (K,) int64 each, number of the query and row of the track, ascending in track."""

    query: Tensor
    track: Tensor


def hits_of(number: Tensor) -> tuple[Tensor, Tensor]:
    """List the hits of each number. number: (n,) int64, -1 = none.

    Returns places (T, L) int64 and whether there is a hit (T, L) bool, for the T numbers that occur, ascending; hits
    of one number in their order, any place where there is none.
    """
    order = torch.argsort(number, stable=True)
    order = order[number[order] >= 0]
    size = torch.unique_consecutive(number[order], return_counts=True)[1]
    begin = (size.cumsum(0) - size)[:, None]
    there = torch.arange(int(size.max()) if len(size) else 0, device=number.device) < size[:, None]
    step = torch.where(there, torch.arange(there.shape[1], device=number.device), 0)
    return order[begin + step], there


def tracks_of_groups(decoded: "Decoded", particle: Tensor, track: Tensor) -> list[Tracks]:
    """Find the tracks of each group: particles with at least one hit there.

    particle: (B, S) int64, number of the particle of each hit, -1 = none; track: (B, S) bool, its hits are to be found
    """
    number = torch.where(track, particle, -1).cpu()
    places, event = decoded.places.cpu(), decoded.event.cpu()
    found, device = [], decoded.hits.device
    for n, of_group, of_event in zip((places >= 0).sum(1).tolist(), places, event.tolist(), strict=True):
        found.append(Tracks(n, *(part.to(device) for part in hits_of(number[of_event, of_group[:n]]))))
    return found


@torch.no_grad()
def pair_costs(decoded: "Decoded", group: int, tracks: Tracks, queries: Tensor, config: HeptLossConfig) -> Tensor:
    """Cost of each pair of query and track, of the last level: class, focal and dice with the weights of the losses.

    queries: (V,) int64, which queries of the group
    Returns (T, V) float32. Memory beside the result: about ``_AT_ONCE`` logits.
    """
    level, n = decoded.levels[-1], tracks.n_hits
    size, members = tracks.there.sum(1), tracks.places[tracks.there]
    with torch.autocast(decoded.hits.device.type, enabled=False):
        vectors, hits = level.queries[group, queries].float(), decoded.hits[group, :n].float()
        p_track = level.classes[group, queries].float().softmax(-1)[:, 0]
        hits, parts = torch.cat((hits[members], hits[_others(members, n)])), []
        for part in vectors.split(max(_AT_ONCE // max(n, 1), 1)):
            empty, total, more, own = member_sums(hits @ part.T + decoded.offset.float(), size)
            focal = (empty + more) / n
            parts.append(config.focal_weight * focal + config.dice_weight * dice(own, total, size[:, None]))
        return torch.cat(parts, 1) - config.class_weight * p_track


def _others(members: Tensor, n: int) -> Tensor:
    """Places below ``n`` that are not among ``members``, ascending: int64."""
    free = torch.ones(n, dtype=torch.bool, device=members.device)
    free[members] = False
    return free.nonzero()[:, 0]


def solve(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of least total cost. cost: (T, V) float.

    Returns rows (K,), ascending, and their columns (K,) int64, K = min(T, V).
    Only the T cheapest columns of each row are looked at: in any match with another one, one of these T is free and no
    worse. Where columns are nearly constant, as when a training begins, that is five times as fast.
    """
    from scipy.optimize import linear_sum_assignment

    n_rows, n_columns = cost.shape
    cost = np.nan_to_num(cost.astype(np.float64), nan=0.0)  # a loss that is not finite is reported by the loop
    if not 0 < n_rows <= n_columns // 2:
        return linear_sum_assignment(cost)
    cheap = np.zeros(n_columns, dtype=bool)
    cheap[np.argpartition(cost, n_rows - 1, axis=1)[:, :n_rows]] = True
    kept = np.flatnonzero(cheap)
    row, column = linear_sum_assignment(cost[:, kept])
    return row, kept[column]


class Matcher:
    """Matches the queries of all groups, and keeps count of the time it takes.

    config: weights of the costs; most: queries a group can have
    clock: such as ``time.process_time``; seconds: spent since the start, costs included
    """

    def __init__(self, config: HeptLossConfig, most: int, clock: Callable[[], float] = time.perf_counter):
        self.config, self.most, self.clock = config, most, clock
        self.seconds = 0.0
        self._warned = False

    def __call__(self, decoded: "Decoded", tracks: Sequence[Tracks]) -> list[Match]:
        """Match each group. Tracks beyond its queries stay without, those of the greatest cost; logged once."""
        device = decoded.hits.device
        if device.type == "cuda":  # what was asked for before is not the time of matching
            torch.cuda.synchronize(device)
        begin = self.clock()
        self._require_enough(tracks)
        queries = [valid.nonzero()[:, 0] for valid in decoded.valid]
        costs = [
            pair_costs(decoded, group, found, usable, self.config).cpu().numpy()
            for group, (found, usable) in enumerate(zip(tracks, queries, strict=True))
        ]
        matches = []
        for usable, (row, column) in zip(queries, _solve_all(costs), strict=True):
            column = torch.from_numpy(column).to(device)
            matches.append(Match(usable[column], torch.from_numpy(row).to(device)))
        self.seconds += self.clock() - begin
        return matches

    def _require_enough(self, tracks: Sequence[Tracks]) -> None:
        """Say once that a group has more tracks than queries; the training goes on."""
        largest = max((len(found.places) for found in tracks), default=0)
        if largest > self.most and not self._warned:
            self._warned = True
            remedy = "the others teach no query; raise network.n_queries or network.sectors"
            logger.warning(describe("training", f"{largest} tracks in a sector", f"at most {self.most}", remedy))


def _solve_all(costs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Solve all, large ones side by side: SciPy works without Python's lock. The result does not depend on that."""
    threads = min(torch.get_num_threads(), sum(cost.size >= _WORTH_A_THREAD for cost in costs))
    if threads < 2:
        return [solve(cost) for cost in costs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(solve, costs))
