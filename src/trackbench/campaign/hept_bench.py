"""Time and memory of HEPTv2 part by part on tiled events, next to the floor of the device and to published times.

Protocol of the source (HEPTv2, scaling figure): one real event tiled to size, already on the device; warm-up, then
timed calls; network and what follows it, up to labels. It measures computing, not physics. Differs from it in: encoder,
decoder and post-processing apart, each ended by waiting for the device, beside the total without such waits.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trackbench.campaign.collision_samples import index_collisions, make_collision_shard
from trackbench.campaign.hept_ways import PARTS, WAYS, Run, Way, agreement, with_block
from trackbench.campaign.study import Study
from trackbench.campaign.workers import Clock
from trackbench.data.hits import Hits
from trackbench.data.shards import read_events
from trackbench.hept_cost import H200, floor_ms, operations
from trackbench.memory import peak_mb, ran_out, reset_peak, resident_mb
from trackbench.tiling import tile_event
from trackbench.trackers.layers.hept_config import HeptConfig

log = logging.getLogger(__name__)


def bench_hits(study: Study, work: Path) -> Hits:
    """Simulate one event of its own as those of the first sample of a study. work: folder of the study's folder."""
    name = study.origins[0]
    block = {**study.config["collisions"]["sets"][name], "events": {"train": 0, "val": 0, "test": 1}, "shard_events": 1}
    config = {**study.config, "collisions": {**study.config["collisions"], "sets": {name: block}}}
    config["subevents"] = {**study.config["subevents"], "sets": {}}
    own = replace(study, config=config, folder=Path(work) / f"{study.config['run']}-bench-event")
    own.claim()
    if not own.is_there(name):
        make_collision_shard(own, name, "0000", Path(work) / "cache")
        index_collisions(own, name)
    return next(read_events(own.sample(name) / "index.csv", "test"))[0]


@dataclass(frozen=True)
class HeptBenchPlan:
    """What is timed.

    sizes: numbers of hits, ascending; blocks: of attention, each with the same weights
    warmup, calls: not recorded and recorded calls; limit_s: no larger sizes after a call that would be longer
    published_size: time networks of the published size too, with learned and with seeded queries
    """

    sizes: tuple[int, ...]
    blocks: tuple[int, ...] = (256, 1024)
    warmup: int = 10
    calls: int = 20
    limit_s: float = 5.0
    published_size: bool = True


class HeptBench:
    """The measurements of the HEPTv2 models of a study.

    hits: a real event, without truth; failures: gets a line for what the device or its compiler refuses
    """

    def __init__(self, study: Study, hits: Hits, plan: HeptBenchPlan, clock: Clock, failures: list[str]):
        self.study, self.hits, self.plan, self.clock, self.failures = study, hits, plan, clock, failures
        self.device = "cuda" if study.device == "cuda" else "cpu"

    def networks(self):
        """Yield name, network on the device and whether it is trained: published, seeded of its size, those trained.

        A model of the study without weights is left out where it is one of the first two; others get random weights.
        """
        made = []
        for model, set_name in self.study.trainings():
            entry = self.study.config["models"][model]
            if entry["task"] == "heptv2":
                config, path = self.study.blocks(model, set_name)["network"], self.study.weights(model, set_name)
                made.append((f"{model} on {set_name}", HeptConfig(**config), path if path.exists() else None))
        if self.plan.published_size:
            made.insert(0, ("published size, learned queries", HeptConfig(), None))
            made.insert(1, ("published size, seeded queries", HeptConfig(queries="seeded", n_queries=1200), None))
        seen = []
        for name, config, path in made:
            if path is not None or config not in seen:
                seen.append(config)
                yield name, self._network(config, path), path is not None

    def _network(self, config: HeptConfig, path: Path | None):
        import torch

        from trackbench.trackers.layers.hept_network import HeptNetwork
        from trackbench.trackers.layers.weights import load_weights

        torch.manual_seed(self.study.seed)
        network = HeptNetwork(config).eval() if path is None else load_weights(path, ("heptv2",))[0]
        return network.to(self.device)

    def measure(self, ways: Sequence[Way] = WAYS, done: Callable[[list], None] = lambda rows: None) -> list[dict]:
        """Rows of all ways, blocks, networks and sizes, as far as the time goes; done: called after each network.

        A row has network, trained, block, path, n_hits, padded_hits, queries, a median time per part and "total" [ms],
        "total_p90", peak memory [MB], as in ``scaling`` (and reserved memory on CUDA, which has the gaps of the pools
        too), the floor on an H200 [ms], and deviations from full precision (see
        ``hept_ways.agreement``); or "left_out" with the reason.
        """
        rows, networks = [], list(self.networks())
        for way in ways:
            if way.graphs and self.device == "cpu":
                continue
            for block in self.plan.blocks:
                for name, network, trained in networks:
                    facts = {"network": name, "trained": trained, "block": block, "path": way.name}
                    rows += [{**facts, **row} for row in self._sizes(with_block(network, block), way)]
                    done(rows)
        return rows

    def _sizes(self, network, way: Way) -> list[dict]:
        """Rows of one network and way against size; the first size that cannot be measured is the last."""
        import torch

        rows: list[dict] = []
        run = Run(network, way, self.device)
        for size in self.plan.sizes:
            reason = self._reason_to_stop(size, rows)
            if not reason:
                try:
                    rows.append(self._size(run, size, first=not rows))
                    continue
                except (RuntimeError, MemoryError) as error:
                    log.exception("%s, %d hits failed", way.name, size)
                    reason = f"{type(error).__name__}: {(str(error) or '-').splitlines()[0]}"[:160]
                    if not ran_out(error):
                        self.failures.append(f"{way.name}, block {network.config.block}, {size} hits: {reason}")
            rows.append({"n_hits": size, "left_out": reason})
            break
        if way.compiled:
            torch._dynamo.reset()  # the memory of its graphs
        return rows

    def _reason_to_stop(self, size: int, rows: list[dict]) -> str:
        # Attention within blocks grows as the hits, seeds as their square.
        expected = 1e-3 * rows[-1]["total_ms"] * (size / rows[-1]["n_hits"]) ** 2 if rows else 0.0
        return self.clock.reason_to_stop(expected, self.plan.limit_s)

    def _size(self, run: Run, size: int, first: bool) -> dict:
        config = run.network.config
        batch = run.batch(tile_event(self.hits, size, self.study.seed), config.inputs)
        begin_mb = _reset_memory(self.device)
        for _ in range(self.plan.warmup):
            run.all(batch, size)
        parts = [run.parts(batch, size) for _ in range(self.plan.calls)]
        totals = [run.timed_all(batch, size) for _ in range(self.plan.calls)]
        queries = parts[0]["queries"]
        cost = operations(config, size, queries, padded=run.way.compiled)
        floor = floor_ms(cost, H200)
        row = {"n_hits": size, "padded_hits": batch.features.shape[1], "queries": queries, "calls": len(totals)}
        row |= {f"{name}_ms": 1e3 * float(np.median([part[name] for part in parts])) for name in PARTS}
        row |= {"total_ms": 1e3 * float(np.median(totals)), "total_p90_ms": 1e3 * float(np.quantile(totals, 0.9))}
        row |= {"floor_h200_ms": floor, **_memory(self.device, begin_mb)}
        return {**row, **(agreement(run, batch, size) if first else {})}


def _reset_memory(device: str) -> float:
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return 0.0
    reset_peak()
    return resident_mb()


def _memory(device: str, begin: float) -> dict[str, float]:
    """Largest memory [MB] torch had allocated on the device, and what it held for that; the rise of that on a CPU."""
    if device != "cuda":
        return {"peak_memory_mb": peak_mb() - begin}
    import torch

    allocated, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"peak_memory_mb": allocated / 1e6, "peak_reserved_mb": held / 1e6}


def hept_table(rows: Sequence[Mapping], published: Mapping[int, Mapping[str, float]]) -> str:
    """Markdown table of ``measure``, the published A100 numbers last. published: of ``published_scaling``."""
    from trackbench.evaluation.markup import markdown_table

    heads = [
        "Network",
        "Block",
        "Path",
        "Hits",
        "Queries",
        "Encoder",
        "Decoder",
        "Post-processing",
        "Total",
        "Memory [MB]",
    ]
    heads += ["Floor H200", "Left out"]
    lines = []
    for row in rows:
        name = row["network"] + ("" if row["trained"] else " (random weights)")
        cells = [name, str(row["block"]), row["path"], f"{row['n_hits']:,}"]
        if "left_out" in row:
            lines.append([*cells, *["-"] * 7, row["left_out"]])
            continue
        times = [f"{row[f'{part}_ms']:.3g}" for part in (*PARTS, "total")]
        floor = f"{row['floor_h200_ms']['total']:.3g}"
        lines.append([*cells, str(row["queries"]), *times, f"{row['peak_memory_mb']:.0f}", floor, ""])
    for size, values in published.items():
        cells = ["HEPTv2, A100 (quoted)", "1023", "published", f"{size:,}", "3000", "-", "-", "-"]
        lines.append([*cells, f"{values['latency_ms']:.3g}", f"{values['peak_memory_mb']:.0f}", "-", ""])
    note = (
        "Times in ms, medians; tiled events, which measure computing and not physics. Floor: longest of matrix units,"
        " exponentials and memory at stated peak rates, and seeds (trackbench.hept_cost); target of the project: 4 ms"
        " and 0.3 GB at 60,000 hits. Random weights: the number of seeds, and so the decoder, is not that of a trained"
        " network."
    )
    return markdown_table(heads, lines) + "\n\n" + note


def published_scaling(path: Path) -> dict[int, dict[str, float]]:
    """Published time [ms] and memory [MB] of HEPTv2 by number of hits. path: of ``config/published.csv``."""
    from trackbench.evaluation.published import read_published, tiled_numbers

    table = tiled_numbers(read_published(path))
    found: dict[int, dict[str, float]] = {}
    for number in table[table["tracker"] == "heptv2"].itertuples():
        found.setdefault(number.n_hits, {})[number.metric] = number.value
    return dict(sorted(found.items()))
