"""Tune the settings of a tracker on validation events for a metric, and keep the whole scan."""

import itertools
import logging
import os
from collections.abc import Callable, Sequence

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.definitions import METRICS
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.files import write_json
from trackbench.trackers.base import build_tracker, load_module

log = logging.getLogger(__name__)


def tune(
    name: str,
    base_settings: dict | None,
    val_events: Sequence[tuple[Hits, Truth]],
    selection: TruthSelection | None = None,
    metric: str = "dm",
    max_settings: int | None = None,
    seed: int = 0,
    build: Callable = build_tracker,
) -> dict:
    """Find the settings with the highest pooled metric; equal ones: fewer fakes, then first tried.

    name: tracker; its ``search_space`` (option -> values) is searched exhaustively, or what ``space_to_tune`` of the
        tracker leaves of it beside the given settings. Where the tracker names
        ``search_groups`` of options that act on different hits, one group is searched after the other, the
        earlier ones at their best, which replaces the product of their sizes by the sum
    base_settings: options that are given and therefore not tuned
    val_events: hits and truth, row by row; never the events that are quoted
    metric: name in ``evaluation.definitions.METRICS``, the larger the better
    max_settings: at most so many settings, drawn with the seed from each group in proportion; None = all
    seed: of the tracker and of that draw
    build: makes the tracker from name, settings and seed, so that it is tuned the way it is run
    Returns {"tracker", "settings" (base and chosen ones), "tried", "events" (event_id), "metric", "value", "scan"};
    each entry of "scan" has settings, value, fake_rate (None without a denominator), and num and den of the value.
    Raises InputError without events, ConfigError for a bad setting or metric.
    """
    _check_request(name, val_events, metric, max_settings)
    base, tracker = dict(base_settings or {}), load_module(name).Tracker
    space = {option: values for option, values in tracker.space_to_tune(base).items() if option not in base}
    groups = _groups(space, getattr(tracker, "search_groups", ()))
    limits = _limits([_size(space, group) for group in groups], max_settings)

    def measure(settings: dict) -> dict:
        return _measure(build(name, settings, seed), settings, val_events, selection, metric)

    scan, best = _search(space, list(zip(groups, limits, strict=True)), base, seed, measure)
    for option in _on_edge(space, best["settings"]):
        log.warning("%s: the best %s is at the edge of the values tried", name, option)
    value = best["value"] or 0.0
    log.info("%s: %s %.4f with %s, best of %d settings", name, metric, value, best["settings"], len(scan))
    result = {"tracker": name, "settings": best["settings"], "tried": len(scan)}
    events = [int(hits.event_id) for hits, _ in val_events]
    return {**result, "events": events, "metric": metric, "value": best["value"], "scan": scan}


def write(path: str | os.PathLike, result: dict) -> None:
    """Write the result of ``tune`` as JSON, atomically."""
    write_json(path, result)


def _check_request(name: str, val_events: Sequence, metric: str, max_settings: int | None) -> None:
    if not val_events:
        raise InputError(describe(f"tuning of {name}", "no validation events", "at least one"))
    if metric not in METRICS:
        raise ConfigError(describe("metric", f"value {metric!r}", "one of " + ", ".join(METRICS)))
    if max_settings is not None and max_settings < 1:
        raise ConfigError(describe("max_settings", f"value {max_settings}", "at least 1"))


def _search(
    space: dict, groups: Sequence[tuple[list[str], int]], base: dict, seed: int, measure: Callable[[dict], dict]
) -> tuple[list[dict], dict]:
    """Search one group of options after the other. groups: options and how many settings to try; measure: of settings.

    Returns all that was measured, and the best of it.
    """
    settings, scan, best = base, [], None
    for number, (group, limit) in enumerate(groups):
        choices = _choices(space, group, limit, np.random.default_rng([seed, number]))
        tried = [measure({**settings, **values}) for values in choices]
        scan += tried
        best = max(tried, key=_rank)  # the first of equal ones
        settings = best["settings"]
    if best is None:
        best = measure(settings)
        scan.append(best)
    return scan, best


def _groups(space: dict, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """Options to tune, group by group; those in no group come last, together."""
    chosen = [[option for option in group if option in space] for group in groups]
    named = {option for group in chosen for option in group}
    chosen.append([option for option in space if option not in named])
    return [group for group in chosen if group]


def _size(space: dict, group: list[str]) -> int:
    return int(np.prod([len(space[option]) for option in group]))


def _limits(sizes: list[int], max_settings: int | None) -> list[int]:
    total = sum(sizes)
    if max_settings is None or total <= max_settings:
        return sizes
    return [max(size * max_settings // total, 1) for size in sizes]


def _choices(space: dict, group: list[str], limit: int, rng: np.random.Generator) -> list[dict]:
    every = [
        dict(zip(group, values, strict=True)) for values in itertools.product(*(space[option] for option in group))
    ]
    kept = np.sort(rng.choice(len(every), size=limit, replace=False)) if limit < len(every) else range(len(every))
    return [every[index] for index in kept]


def _measure(tracker, settings: dict, events, selection, metric: str) -> dict:
    pairs = []
    for hits, truth in events:
        counts = evaluate_event(tracker.reconstruct(hits), truth, selection).counts
        pairs.append([counts[metric], counts["fake_rate"]])
    (num, den), (fakes, candidates) = np.sum(pairs, axis=0).tolist()
    entry = {
        "settings": settings,
        "value": num / den if den else None,
        "fake_rate": fakes / candidates if candidates else None,
        "num": num,
        "den": den,
    }
    log.debug("%s: %s %s, fake rate %s", settings, metric, entry["value"], entry["fake_rate"])
    return entry


def _on_edge(space: dict, settings: dict) -> list[str]:
    """Numeric options whose chosen value is the smallest or largest of at least three tried."""
    numeric = {option: values for option, values in space.items() if not isinstance(values[0], str | bool)}
    return [o for o, values in numeric.items() if len(values) > 2 and settings[o] in (min(values), max(values))]


def _rank(entry: dict) -> tuple[float, float]:
    # No candidate at all means no fake, but also no track: it never wins by its fakes.
    return (entry["num"], -1.0 if entry["fake_rate"] is None else -entry["fake_rate"])
