"""Where a tracker loses: the same collisions simulated under varied conditions, scored in regions.

The sample ``effects`` has one shard per variation. Efficiencies are given for all targets and for groups of
them that are hard for different reasons; fakes for all candidates and, those led by a target, by direction.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.evaluation.definitions import METRICS, PROMPT_RADIUS
from trackbench.evaluation.intervals import interval_named, interval_text
from trackbench.evaluation.tables import FORWARD_ETA, Measured

COLUMNS = ("tracker", "effect", "region", "metric", "value", "lo", "hi", "n_num", "n_den", "n_events")
ALL = "all"

# region -> mask over a particles frame; those of direction also hold for a candidates frame
DIRECTIONS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "|eta| < 2.5": lambda frame: frame["eta"].abs() < 2.5,
    "2.5 <= |eta| < 3": lambda frame: frame["eta"].abs().between(2.5, FORWARD_ETA, inclusive="left"),
    "|eta| >= 3": lambda frame: frame["eta"].abs() >= FORWARD_ETA,
}
REGIONS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    ALL: lambda frame: pd.Series(True, index=frame.index),
    "prompt": lambda frame: frame["vr"] <= PROMPT_RADIUS,
    "secondary, >= 4 layers": lambda frame: (frame["vr"] > PROMPT_RADIUS) & (frame["n_layers"] >= 4),
    "secondary, 3 layers": lambda frame: (frame["vr"] > PROMPT_RADIUS) & (frame["n_layers"] == 3),
    **DIRECTIONS,
}
FAKES = ("fake_rate", "fake_all", "fake_all_pt")  # shown where a tracker's counts have them


def effects_table(
    measured: Mapping[str, Measured], shard_of: Mapping[int, int], effects: Sequence[str], interval: str
) -> pd.DataFrame:
    """Build the table of effects.

    measured: tracker -> counts, particles and candidates of the sample ``effects``
    shard_of: event_id -> number of its shard, all events of the sample
    effects: name of the variation of each shard
    interval: name of a binomial interval, see ``intervals.INTERVALS``
    Returns one row per tracker, effect, region and metric, columns ``COLUMNS``: ``dm`` in ``REGIONS``,
    ``fake_rate`` in all and ``DIRECTIONS``, other ``FAKES`` in all; ratios are pooled over events, NaN
    without particles or candidates.
    Raises InputError if an event has no effect or a tracker lacks events.
    """
    outside = [event for event, shard in shard_of.items() if not 0 <= shard < len(effects)]
    if outside:
        what = f"event {outside[0]} in shard {shard_of[outside[0]]}"
        raise InputError(describe("sample effects", what, f"one shard for each of {len(effects)} variations"))
    rows = []
    for tracker, item in measured.items():
        _check_events(tracker, item, shard_of)
        for shard, effect in enumerate(effects):
            events = [event for event, its_shard in shard_of.items() if its_shard == shard]
            head = {"tracker": tracker, "effect": effect, "n_events": len(events)}
            rows += [{**head, **row} for row in _rows(item, events)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    num, den = table["n_num"].to_numpy(np.float64), table["n_den"].to_numpy(np.float64)
    lo, hi = interval_named(interval)(num, den)
    value = np.divide(num, den, out=np.full(len(table), np.nan), where=den > 0)
    return table.assign(value=value, lo=lo, hi=hi)


def _check_events(tracker: str, item: Measured, shard_of: Mapping[int, int]) -> None:
    if item.particles is None or item.candidates is None:
        raise InputError(describe(f"effects of {tracker}", "no particles or no candidates", "both tables"))
    found = set(item.counts["event_id"])
    if found != set(shard_of):
        what = f"{len(found)} events were evaluated, {len(shard_of)} are in the sample"
        raise InputError(describe(f"effects of {tracker}", what, "the same events", "evaluate again"))


def _rows(item: Measured, events: list[int]) -> list[dict]:
    """Counts of one tracker in the events of one effect."""
    counts, particles, candidates = (
        frame[frame["event_id"].isin(events)] for frame in (item.counts, item.particles, item.candidates)
    )
    rows = [_row("dm", region, particles.loc[mask(particles), "dm"]) for region, mask in REGIONS.items()]
    pooled = counts.groupby("metric")[["num", "den"]].sum()
    for metric in FAKES:
        if metric in pooled.index:
            num, den = pooled.loc[metric]
            rows.append({"metric": metric, "region": ALL, "n_num": num, "n_den": den})
    fiducial = candidates[candidates["fiducial"]]
    for region, mask in DIRECTIONS.items():
        rows.append(_row("fake_rate", region, fiducial.loc[mask(fiducial), "fake_purity"]))
    return rows


def _row(metric: str, region: str, flags: pd.Series) -> dict:
    return {"metric": metric, "region": region, "n_num": int(flags.sum()), "n_den": len(flags)}


def effects_markdown(table: pd.DataFrame, note: str, interval: str) -> str:
    """Write the table of effects for people, one table per tracker, rows are effects, in per cent.

    table: from ``effects_table``; note: what the events are; interval: name of the binomial interval
    """
    shown = [("dm", region) for region in REGIONS]
    shown += [(metric, ALL) for metric in FAKES if (table["metric"] == metric).any()]
    head = ["Variation", *(_heading(metric, region) for metric, region in shown)]
    parts = []
    for tracker, mine in table.groupby("tracker", sort=False):
        cells = mine.set_index(["effect", "metric", "region"])[["value", "lo", "hi"]]
        effects = dict.fromkeys(mine["effect"])
        lines = [[effect, *(_cell(cells.loc[(effect, *column)]) for column in shown)] for effect in effects]
        parts += [f"### {tracker}", _markdown([head, ["---", *["---:"] * len(shown)], *lines])]
    caption = (
        f"In per cent. {note}. Pooled over events; errors are {interval_text(interval)} intervals. The collisions are"
        " the same in every row, so differences between rows are known better than each number. Prompt: produced within"
        f" {PROMPT_RADIUS:g} mm of the beam line; secondary: farther away; layers: with a hit of the particle."
        " Purity fakes are among candidates led by a selected particle; all-candidate fakes are all those that no"
        " particle at all matches by double majority."
    )
    return "\n\n".join([*parts, caption]) + "\n"


def _heading(metric: str, region: str) -> str:
    if metric != "dm":
        return METRICS[metric].title
    return "DM eff., " + region


def _cell(entry: pd.Series) -> str:
    value, lo, hi = 100 * entry["value"], 100 * entry["lo"], 100 * entry["hi"]
    if np.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.2f} +{max(hi - value, 0):.2f} \N{MINUS SIGN}{max(value - lo, 0):.2f}"


def _markdown(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
