"""What attention masks keep of the tracks, and what they cost: pairs, time and memory of one attention layer."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.surfaces import BLOCK, PT_MIN
from trackbench.mask_cost import CostPlan, layer_costs, setup_text
from trackbench.settings import build_dataclass
from trackbench.tiling import tile_event
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS
from trackbench.trackers.layers.network_config import MaskConfig
from trackbench.trackers.layers.surfaces import SurfaceTracker

log = logging.getLogger(__name__)

# Masks by name: settings of ``MaskConfig``.
MASKS: dict[str, dict] = {
    "all pairs": {"kind": "padding"},
    "cluster": {"kind": "cluster", "clusterer": "density_peaks"},
    "cone 0.3": {"kind": "cone", "radius": 0.3},
    "cone 0.7": {"kind": "cone", "radius": 0.7},
    "window 256": {"kind": "phi_window", "window": 256},
    "window 512": {"kind": "phi_window", "window": 512},
    "8 sectors + 0.1": {"kind": "phi_sector", "sectors": 8, "overlap": 0.1},
    "8 sectors + 0.3": {"kind": "phi_sector", "sectors": 8, "overlap": 0.3},
}

COLUMNS = (
    "mask",
    "kind",
    "backend",  # "" = a quantity of the mask itself
    "events",  # "sample" or "tiled"
    "event_id",
    "n_hits",
    "quantity",  # one of QUANTITIES
    "value",
    "lo",  # 16 and 84 % quantiles of the calls of a time, else NaN
    "hi",
    "n",  # pairs of a recall, calls of a time or memory, else 1
    "setup",  # device, threads, size of the layer
)
QUANTITIES = {
    "share": "allowed pairs / N^2",
    "block_density": "128 x 128 blocks with a pair, hits sorted",
    "recall": "ordered pairs of distinct hits of one particle that are allowed",
    "recall_pt": f"the same for particles with pT > {PT_MIN:g} GeV",
    "cluster_ms": "CPU time of the projection clusters [ms]",
    "build_ms": "wall clock of the mask in the form of the backend [ms]",
    "wall_ms": "wall clock of one layer [ms]",
    "cpu_ms": "CPU time of one layer [ms]",
    "memory_mb": "peak memory of mask and one layer beyond queries, keys and values [MB = 10^6 bytes]",
}
TABLE_COLUMNS = (
    "mask",
    "kind",
    "backend",
    "n_hits",
    "n_events",
    "timed_hits",
    "share",
    "reduction",
    *list(QUANTITIES)[1:],
)

CAPTION = (
    "Attention share: allowed pairs over squared number of hits, mean "
    "over events (of clusters: sum of squared sizes over N^2, a hit in no cluster is alone); reduction: its inverse; "
    "blocks: 128 x 128 blocks with at least one pair after sorting, which bounds what FlexAttention can skip; recall: "
    "ordered pairs of distinct hits of one particle that may attend to each other, pooled over events, for all "
    f"particles and for pT > {PT_MIN:g} GeV. Build: the mask in the form its backend needs, once per batch, projection "
    "clusters apart; layer: softmax attention without projections, median of repeated calls; memory: peak of both "
    "beyond queries, keys and values. sdpa: dense mask; varlen: group by group; flex: FlexAttention, compiled. Hits "
    "outside the pixel volumes are in no projection cluster and attend to themselves only."
)


@dataclass(frozen=True)
class _NamedMask:
    """A mask with its clusterer, if it needs one."""

    name: str
    config: MaskConfig
    clusterer: SurfaceTracker | None

    def batch(self, hits: Hits):
        """Batch of one event and the CPU seconds of its clusters, NaN without clusters."""
        from trackbench.trackers.layers.batch import collate

        if self.clusterer is None:
            return collate([hits]), float("nan")
        self.clusterer.reconstruct(hits)  # the first call may load kernels
        start = time.process_time()
        clusters = self.clusterer.reconstruct(hits)
        return collate([hits], [clusters]), time.process_time() - start


def mask_study(
    events: Iterable[tuple[Hits, Truth]],
    settings: Mapping[str, Mapping] | None = None,
    plan: CostPlan | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure attention masks on events.

    events: hits and truth, row by row, all hits real; truth is used for the recall only
    settings: name -> values of ``MaskConfig``; default ``MASKS``. Clusters come from the clusterer with its
        ``mask_settings.MASK_SETTINGS``.
    plan: backends, calls, which events are timed, sizes of tiled events; seed: of clusterers, random inputs and tiling
    Returns ``COLUMNS``, a row per mask, backend, event and quantity (``QUANTITIES``). Events "tiled" are made from
    the first one by ``tiling.tile_event`` and have no truth: costs only.
    Raises ConfigError for an unknown setting, InputError without events.
    """
    plan = plan or CostPlan()
    masks = _named(MASKS if settings is None else settings, seed)
    rows, first = [], None
    for number, (hits, truth) in enumerate(events):
        first = hits if first is None else first
        for mask in masks:
            timed = plan if number < plan.timed_events else None
            rows += [{"events": "sample", **row} for row in _event_rows(mask, hits, truth, timed, seed)]
        log.info("event %d: %d hits, %d masks", hits.event_id, len(hits), len(masks))
    if first is None:
        raise InputError(describe("mask study", "no events", "at least one"))
    for size in plan.sizes:
        tiled = tile_event(first, size, seed)
        for mask in masks:
            rows += [{"events": "tiled", **row} for row in _event_rows(mask, tiled, None, plan, seed)]
        log.info("tiled: %d hits, %d masks", size, len(masks))
    return pd.DataFrame(rows).assign(setup=setup_text(plan)).reindex(columns=list(COLUMNS))


def _named(settings: Mapping[str, Mapping], seed: int) -> list[_NamedMask]:
    masks = []
    for name, values in settings.items():
        config = build_dataclass(MaskConfig, f"masks.{name}", values)
        clusterer = None
        if config.kind == "cluster":
            clusterer = build_tracker(config.clusterer, MASK_SETTINGS.get(config.clusterer, {}), seed)
            if not isinstance(clusterer, SurfaceTracker):
                where, what = f"masks.{name}.clusterer", f"value '{config.clusterer}'"
                raise ConfigError(describe(where, what, "one of " + ", ".join(sorted(MASK_SETTINGS))))
        masks.append(_NamedMask(name, config, clusterer))
    if not masks:
        raise ConfigError(describe("mask study", "no masks", "at least one"))
    return masks


def _event_rows(mask: _NamedMask, hits: Hits, truth: Truth | None, plan: CostPlan | None, seed: int) -> Iterator[dict]:
    """Rows of one mask and event: what is kept if there is truth, costs if there is a plan."""
    facts = {"mask": mask.name, "kind": mask.config.kind, "event_id": hits.event_id, "n_hits": len(hits)}
    batch, cluster_s = mask.batch(hits)
    if truth is not None:
        for quantity, (value, n) in _kept(mask.config, batch, truth).items():
            yield facts | {"backend": "", "quantity": quantity, "value": value, "n": n}
    if not np.isnan(cluster_s):
        yield facts | {"backend": "", "quantity": "cluster_ms", "value": 1e3 * cluster_s, "n": 1}
    if plan is not None:
        for cost in layer_costs(mask.config, batch, plan, seed):
            yield facts | cost


def _kept(config: MaskConfig, batch, truth: Truth) -> dict[str, tuple[float, int]]:
    """Share, block density and recalls of one event: quantity -> (value, n)."""
    from trackbench.trackers.layers.masks import AttentionMask

    mask = AttentionMask.build(config, batch)
    counts = mask.block_counts()
    n_hits = batch.xyz.shape[1]
    n_blocks = -(-n_hits // BLOCK)
    found = {
        "share": (counts.sum().item() / n_hits**2 if n_hits else float("nan"), 1),
        "block_density": ((counts > 0).sum().item() / n_blocks**2 if n_hits else float("nan"), 1),
    }
    for quantity, fast in (("recall", False), ("recall_pt", True)):
        found[quantity] = pair_recall(mask, *same_particle_pairs(truth, PT_MIN if fast else 0.0))
    return found


def same_particle_pairs(truth: Truth, pt_min: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of distinct hits of one particle with pT > pt_min [GeV]: two (n,) int64 of rows."""
    particles = truth.particles
    chosen = particles["particle_id"].to_numpy()[particles["pt"].to_numpy() > pt_min]
    rows = np.flatnonzero(np.isin(truth.particle_id, chosen) & (truth.particle_id > 0))
    rows = rows[np.argsort(truth.particle_id[rows], kind="stable")]
    _, start, count = np.unique(truth.particle_id[rows], return_index=True, return_counts=True)
    partners = np.repeat(count, count)  # hits of the particle of each row
    first = np.repeat(np.arange(len(rows)), partners)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
    second = np.repeat(np.repeat(start, count), partners) + offset
    other = first != second
    return rows[first[other]], rows[second[other]]


def pair_recall(mask, queries: np.ndarray, keys: np.ndarray) -> tuple[float, int]:
    """Share of the pairs of hits of event 0 that a mask allows, NaN without pairs, and their number."""
    import torch

    if len(queries) == 0:
        return float("nan"), 0
    zero = torch.zeros((), dtype=torch.int64)
    allowed = mask.rule(zero, zero, torch.from_numpy(queries), torch.from_numpy(keys))
    return allowed.double().mean().item(), len(queries)


def mask_table(study: pd.DataFrame, events: str = "sample") -> pd.DataFrame:
    """Pool a study over events.

    study: from ``mask_study``; events: "sample", or "tiled" for one row per size
    Returns ``TABLE_COLUMNS`` with ``wall_lo wall_hi``: a row per mask, backend and, of tiled events, size. Shares are
    means over events, recalls pooled over pairs, times and memory medians over the timed events, whose mean number
    of hits is ``timed_hits``; NaN where not measured.
    """
    rows = study[study["events"] == events]
    keys = ["mask", "kind"] if events == "sample" else ["mask", "kind", "n_hits"]
    table = [
        {**dict(zip(keys, name, strict=True)), **row}
        for name, mine in rows.groupby(keys, sort=False)
        for row in _pooled(mine.fillna({"backend": ""}))
    ]
    return pd.DataFrame(table, columns=[*TABLE_COLUMNS, "wall_lo", "wall_hi"])


def _pooled(rows: pd.DataFrame) -> Iterator[dict]:
    own = rows[rows["backend"] == ""]
    facts = {"n_events": rows["event_id"].nunique(), "n_hits": rows.drop_duplicates("event_id")["n_hits"].mean()}
    for quantity in ("share", "block_density", "cluster_ms"):
        facts[quantity] = own.loc[own["quantity"] == quantity, "value"].mean()
    facts["reduction"] = 1 / facts["share"]
    for quantity in ("recall", "recall_pt"):
        mine = own[(own["quantity"] == quantity) & (own["n"] > 0)]
        facts[quantity] = np.average(mine["value"], weights=mine["n"]) if len(mine) else np.nan
    for backend in rows.loc[rows["backend"] != "", "backend"].unique():
        mine = rows[rows["backend"] == backend]
        costs = mine.groupby("quantity")[["value", "lo", "hi"]].median()
        facts["timed_hits"] = mine.drop_duplicates("event_id")["n_hits"].mean()
        spread = {"wall_lo": costs.loc["wall_ms", "lo"], "wall_hi": costs.loc["wall_ms", "hi"]}
        yield facts | {"backend": backend, **costs["value"].to_dict(), **spread}


def mask_markdown(table: pd.DataFrame, setup: str, note: str) -> str:
    """The pooled table as Markdown with what was measured on what.

    table: from ``mask_table``; setup: layer and device in words; note: description of the sample
    """
    names = ("mask", "backend", "attention share", "reduction", "blocks", "recall", f"recall pT > {PT_MIN:g} GeV")
    names += ("clusters [ms]", "build [ms]", "layer [ms]", "layer CPU [ms]", "memory [MB]")
    lines = ["| " + " | ".join(names) + " |", "|---|---|" + "---:|" * (len(names) - 2)]
    formats = {
        "share": ".5f",
        "reduction": ".3g",
        "block_density": ".3f",
        "recall": ".3f",
        "recall_pt": ".3f",
        "cluster_ms": ".1f",
        "build_ms": ".2f",
        "wall_ms": ".2f",
        "cpu_ms": ".2f",
        "memory_mb": ".1f",
    }
    for row in table.to_dict("records"):
        cells = ["-" if pd.isna(row[name]) else format(row[name], spec) for name, spec in formats.items()]
        lines.append("| " + " | ".join([row["mask"], row["backend"], *cells]) + " |")
    if table.empty:
        return "\n".join(lines) + "\n"
    first = table.iloc[0]
    events = f"{first['n_events']} event" + ("" if first["n_events"] == 1 else "s")
    pairs = f"Sample: {note}. Pairs: {events} of {first['n_hits']:.0f} hits on average."
    costs = f"Time and memory: {first['timed_hits']:.0f} hits; {setup}."
    return "\n".join(lines) + f"\n\n{pairs} {costs} {CAPTION}\n"
