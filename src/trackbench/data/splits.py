"""Split a sample by event into training, validation and test events."""

from collections.abc import Mapping, Sequence

import numpy as np

from trackbench.errors import ConfigError, describe

SPLITS = ("train", "val", "test")
_STAGE = 1  # keeps this random stream apart from others made of the same seed


def split_events(events: int | Sequence[int], sizes: Mapping[str, int | float], seed: int | None = 0) -> dict[int, str]:
    """Assign each event to one split.

    events: number of events (then keys are positions 0..n-1) or the event numbers
    sizes: split name ("train", "val", "test") -> number of events, which must sum to all events, or
        fraction (float), which must sum to 1; fractions are rounded so that all events are used
    seed: events are drawn by it; None keeps the order, first training, as the published HEPTv2 split
    Returns event -> split name, in the order of ``events``. The result depends on the number of events
    and the seed only. Raises ConfigError for a wrong name, size or sum, or an event given twice.
    """
    keys = list(range(events)) if isinstance(events, int | np.integer) else [int(event) for event in events]
    if len(set(keys)) != len(keys):
        raise ConfigError(describe("events", "an event is given twice", "unique event numbers"))
    counts = _counts(len(keys), sizes)
    order = np.arange(len(keys)) if seed is None else np.random.default_rng([seed, 0, _STAGE]).permutation(len(keys))
    names = np.repeat(np.array(list(counts), dtype=object), list(counts.values()))
    result = np.empty(len(keys), dtype=object)
    result[order] = names
    return dict(zip(keys, result.tolist(), strict=True))


def _counts(n_events: int, sizes: Mapping[str, int | float]) -> dict[str, int]:
    for name, size in sizes.items():
        where = f"data.events.{name}"
        if name not in SPLITS:
            raise ConfigError(describe(where, "unknown split", ", ".join(SPLITS)))
        if isinstance(size, bool) or not isinstance(size, int | float) or not size >= 0:
            raise ConfigError(describe(where, f"value {size!r}", "a number of events or a fraction"))
    ordered = {name: sizes[name] for name in SPLITS if name in sizes}
    if any(isinstance(size, float) for size in ordered.values()):
        return _round_fractions(n_events, ordered)
    total = sum(ordered.values())
    if total != n_events:
        raise ConfigError(describe("data.events", f"sizes sum to {total}", f"the number of events, {n_events}"))
    return ordered


def _round_fractions(n_events: int, fractions: Mapping[str, float]) -> dict[str, int]:
    total = sum(fractions.values())
    if abs(total - 1) > 1e-9:
        raise ConfigError(describe("data.events", f"fractions sum to {total:g}", "1"))
    exact = {name: fraction * n_events for name, fraction in fractions.items()}
    counts = {name: int(value + 1e-9) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: counts[name] - exact[name])  # largest remainder first
    for name in by_rest[: n_events - sum(counts.values())]:
        counts[name] += 1
    return counts
