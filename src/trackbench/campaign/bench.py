"""What a GPU is good for here: equal backends, time and memory of attention layers, latency against tracks."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from trackbench.backend_checks import backend_differences
from trackbench.campaign.samples import index_samples, make_shard
from trackbench.campaign.study import Study
from trackbench.campaign.workers import Clock
from trackbench.data.hits import Hits
from trackbench.data.shards import read_events
from trackbench.data.subevents import SubeventConfig, cut_event
from trackbench.data.truth import Truth
from trackbench.evaluation.markup import markdown_table
from trackbench.mask_cost import BACKENDS, CostPlan
from trackbench.mask_study import MASKS, mask_study
from trackbench.settings import build_dataclass
from trackbench.surface_table import MASK_SETTINGS
from trackbench.tiling import tile_event
from trackbench.track_latency import LatencyPlan, time_on_devices
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers.network_config import MaskConfig, NetworkConfig
from trackbench.training.config import LossConfig

log = logging.getLogger(__name__)

TRACKERS = {"encreg": "encreg", "enccla": "enccla", "contrastive": "latent", "joint": "enccla"}  # task -> tracker


def bench_events(study: Study, number: int, work: Path) -> list[tuple[Hits, Truth]]:
    """Simulate parents as those of a study but of their own, once. work: folder of the study's folder."""
    config = {**study.config, "run": "bench", "subevents": {**study.config["subevents"], "sets": {}}}
    config["collisions"] = {**study.config["collisions"], "sets": {}}
    parents = {**config["subevents"]["parents"], "events": {"test": number}, "shard_events": number}
    config["subevents"]["parents"] = parents
    own = replace(study, config=config, folder=Path(work) / f"{study.config['run']}-bench")
    own.claim()
    for shard in own.shards():
        make_shard(own, shard, Path(work) / "cache")
    index_samples(own)
    return list(read_events(own.sample("parents") / "index.csv", "test"))


class Bench:
    """The measurements.

    events: parents; sizes: equality_hits, sizes, train_sizes, tracks, calls and limit_s, as ``gpu/bench.py`` has them
    clock: nothing is begun when it is over
    ``failures`` names what could not be measured, such as code that does not compile on the device.
    """

    def __init__(self, study: Study, events: Sequence[tuple[Hits, Truth]], sizes: Mapping, clock: Clock):
        self.study, self.events, self.sizes, self.clock = study, events, sizes, clock
        self.failures: list[str] = []
        low, high = (3, 6) if len(events) == 1 else (200, 500)
        cut = SubeventConfig(low=low, high=high, length=100_000, draws=1, seed=study.seed)
        self.sample = cut_event(*events[0], cut)

    def equality(self, masks: Sequence[str] = tuple(MASKS)) -> list[dict]:
        """Differences of the backends on two events, one with padding: see ``backend_differences``."""
        from trackbench.trackers.layers.batch import collate

        seed, most = self.study.seed, self.sizes["equality_hits"]
        hits = [tile_event(self.sample[0][0], n, seed) for n in (most, most * 3 // 4)]
        configs, batches = {}, {}
        for name in masks:
            config, clusters = build_dataclass(MaskConfig, f"masks.{name}", MASKS[name]), None
            if config.kind == "cluster":
                clusterer = build_tracker(config.clusterer, MASK_SETTINGS.get(config.clusterer, {}), seed)
                clusters = [clusterer.reconstruct(one) for one in hits]
            configs[name], batches[name] = config, collate(hits, clusters)
        rows = []
        for name in masks:
            for backend in BACKENDS:
                plan = CostPlan(backends=(backend,), device=self.study.device)
                arguments = {name: configs[name]}, batches, plan, seed
                rows += self._try(f"{backend}, {name}", lambda a=arguments: list(backend_differences(*a)))
        return rows

    def _try(self, what: str, measure: Callable[[], list]) -> list:
        """What ``measure`` gives; nothing, and an entry in ``failures``, if the device or its compiler refuses."""
        try:
            return measure()
        except (RuntimeError, MemoryError) as error:
            self.failures.append(f"{what}: {type(error).__name__}: {(str(error) or '-').splitlines()[0][:200]}")
            log.exception("%s failed", what)
            return []

    def layers(self, masks: Sequence[str] = tuple(MASKS), backward: bool = False) -> list[dict]:
        """Time and memory of one layer per mask, size and backend: rows of ``mask_study``, sizes as time allows."""
        rows = []
        for size in self.sizes["train_sizes" if backward else "sizes"]:
            if self.clock.left() <= 0:
                log.warning("time is over: no layers of %d hits and more", size)
                break
            calls, device = self.sizes["calls"], self.study.device
            plan = CostPlan(sizes=(size,), calls=calls, device=device, backward=backward)
            for name in masks:
                found = self._try(f"{size} hits, {name}", lambda n=name, p=plan: self._layers(n, p))
                rows += found if size == self.sizes["sizes"][0] else [row for row in found if row["events"] == "tiled"]
        return rows

    def _layers(self, mask: str, plan: CostPlan) -> list[dict]:
        study = mask_study(self.sample, {mask: MASKS[mask]}, plan, self.study.seed)
        return _records(study)

    def latency(self, published: Mapping) -> list[dict]:
        """Network and clustering against tracks, per model and device.

        published: network settings of one more model, an EncReg
        A number of tracks that does not fit into memory, or for which a call would be longer than limit_s, is left out
        with all larger ones; the row says why.
        """
        models = list(self._models(self.study.folder / "bench-weights", published))
        rows = []
        for device in dict.fromkeys((self.study.device, "cpu")):
            for name, tracker, weights, trained in models:
                facts = {"model": name, "tracker": tracker, "trained": trained, "device": device}
                rows += [{**facts, **row} for row in self._timed(tracker, {"checkpoint": str(weights)}, device)]
        return rows

    def _models(self, folder: Path, published: Mapping):
        """Name, tracker, weights and whether they are trained: the published model, then those of the study."""
        self._untrained(folder / "published.pt", "encreg", NetworkConfig(**published), LossConfig())
        yield "published EncReg", "encreg", folder / "published.pt", False
        for model, entry in self.study.config["models"].items():
            if entry["task"] not in TRACKERS:
                continue
            set_name = entry["sets"][-1]
            blocks = self.study.blocks(model, set_name)
            weights = self.study.weights(model, set_name)
            trained = weights.exists()
            if not trained:
                weights = folder / f"{model}.pt"
                network, loss = NetworkConfig(**blocks["network"]), LossConfig(**blocks["loss"])
                self._untrained(weights, entry["task"], network, loss)
            yield model, TRACKERS[entry["task"]], weights, trained

    def _untrained(self, path: Path, task: str, network: NetworkConfig, loss: LossConfig) -> None:
        import torch

        from trackbench.training.tasks import make_task

        made = make_task(task, network, loss)
        made.fit(self.sample)
        torch.manual_seed(self.study.seed)
        made.save(path, made.build(), {"label": "untrained"})

    def _timed(self, tracker: str, settings: dict, device: str) -> list[dict]:
        rows: list[dict] = []
        for n_tracks in self.sizes["tracks"]:
            reason = self._reason_to_stop(n_tracks, rows)
            if not reason:
                try:
                    rows.append(self._time(tracker, settings, device, n_tracks))
                    continue
                except (RuntimeError, MemoryError) as error:  # memory of the device, or of this machine
                    log.warning("%s, %d tracks on %s: %s", tracker, n_tracks, device, error)
                    reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:120]
            return [*rows, {"n_tracks": n_tracks, "left_out": reason}]
        return rows

    def _reason_to_stop(self, n_tracks: int, rows: list[dict]) -> str:
        """Why so many tracks are not timed, "" if they are. rows: of fewer tracks."""
        # All pairs of hits are looked at.
        expected = 1e-3 * rows[-1]["total_ms"] * (n_tracks / rows[-1]["n_tracks"]) ** 2 if rows else 0.0
        return self.clock.reason_to_stop(expected, self.sizes["limit_s"])

    def _time(self, tracker: str, settings: dict, device: str, n_tracks: int) -> dict:
        """Medians over the calls [ms], peak memory of the device [MB]."""
        import torch

        plan = LatencyPlan((n_tracks,), self.sizes["calls"], seed=self.study.seed)
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found = time_on_devices(tracker, settings, self.events, plan, (device,))
        medians = {f"{name}_ms": 1e3 * part["wall_s"].median() for name, part in found.groupby("stage")}
        return {
            "n_tracks": n_tracks,
            "n_hits": float(found["n_hits"].mean()),
            "calls": plan.calls,
            **medians,
            "peak_device_memory_mb": torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None,
            "device_name": found["device_name"].iloc[0],
        }

    def tables(self, record: Mapping) -> str:
        """The record for people, as Markdown."""
        return "\n\n".join(
            [
                f"## Equality of the backends on {record['device']}",
                _equality_table(record["equality"]),
                "## One layer, forward",
                _layer_table(record["layers"]),
                "## One layer, forward and backward",
                _layer_table(record["training_layers"]),
                "## Network and clustering against tracks",
                _latency_table(record["latency"]),
            ]
        )


def _records(frame: pd.DataFrame) -> list[dict]:
    """Rows as plain values, a missing number null."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _equality_table(rows: Sequence[Mapping]) -> str:
    lines = []
    for row in rows:
        names = (row[name] for name in ("mask", "backend", "dtype", "quantity"))
        found = f"{row['difference']:.1e}", f"{row['tolerance']:g}", "yes" if row["good"] else "NO"
        lines.append([*names, *found])
    largest = {}
    for row in rows:
        key = (row["dtype"], row["quantity"])
        largest[key] = max(largest.get(key, 0.0), row["difference"])
    words = ", ".join(f"{dtype} {quantity} {value:.1e}" for (dtype, quantity), value in largest.items())
    heads = ["Mask", "Backend", "Type", "Of", "Largest difference", "Tolerance", "Within"]
    return markdown_table(heads, lines) + f"\n\nLargest differences: {words or 'none measured'}."


def _layer_table(rows: Sequence[Mapping]) -> str:
    if not rows:
        return "Not measured."
    frame = pd.DataFrame(rows)
    timed = frame[frame["quantity"].isin(["build_ms", "wall_ms", "memory_mb"])]
    keys = ["mask", "backend", "n_hits"]
    wide = timed.pivot_table(index=keys, columns="quantity", values="value", aggfunc="median", sort=False)
    lines = [
        [mask, backend, str(n_hits), *(f"{values[name]:.3g}" for name in ("build_ms", "wall_ms", "memory_mb"))]
        for (mask, backend, n_hits), values in wide.iterrows()
    ]
    heads = ["Mask", "Backend", "Hits", "Build [ms]", "Layer [ms]", "Memory [MB]"]
    return markdown_table(heads, lines) + f"\n\n{frame['setup'].iloc[0]}."


def _latency_table(rows: Sequence[Mapping]) -> str:
    lines = []
    for row in rows:
        name = row["model"] + ("" if row["trained"] else " (untrained)")
        cells = [name, row["device"], str(row["n_tracks"])]
        if "left_out" in row:
            lines.append([*cells, "-", "-", "-", "-", row["left_out"]])
            continue
        times = [f"{row[f'{stage}_ms']:.3g}" if f"{stage}_ms" in row else "-" for stage in ("network", "clustering")]
        memory = row["peak_device_memory_mb"]
        lines.append([*cells, f"{row['n_hits']:.0f}", *times, "-" if memory is None else f"{memory:.0f}", ""])
    heads = ["Model", "Device", "Tracks", "Hits", "Network [ms]", "Clustering [ms]", "GPU memory [MB]", "Left out"]
    return markdown_table(heads, lines)
