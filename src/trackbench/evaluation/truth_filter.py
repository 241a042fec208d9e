"""Results with noise kept beside those of the same events with hits removed by truth, as a table for people.

Source of the comparison: the public data of HEPTv2 (arXiv:2606.20437) have lost noise and out-of-acceptance hits by
truth, at inference too, so that its numbers are of the second kind.
"""

import numpy as np
import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.evaluation.markup import markdown_table
from trackbench.evaluation.published import is_quoted

_METRICS = {"dm": "DM", "fake_rate": "fake, purity", "fake_all": "fake, all cand."}  # metric -> heading
_NOTE = (
    "The same events once as the sample {kept} ({kept_hits}; {kept_targets:.0f} particles to find) and once as"
    " {removed} ({removed_hits}; {removed_targets:.0f} particles); all numbers in %, errors in the summary of each"
    " sample. Published numbers of HEPTv2 are of the second kind."
)


def truth_filter_markdown(kept: pd.DataFrame, removed: pd.DataFrame, names: tuple[str, str]) -> str:
    """Set double majority and fake rates of both side by side, a row per tracker that is in both.

    kept, removed: long tables of ``tables.metrics_table`` of the two samples; names: of these samples
    Returns Markdown, a table and a note. Raises InputError if they share no tracker or differ in number of events.
    """
    tables = [_wide(table) for table in (kept, removed)]
    trackers = [name for name in tables[0].index if name in tables[1].index]
    numbers = [sorted(set(table.loc[trackers, "n_events"])) for table in tables]
    if not trackers or numbers[0] != numbers[1]:
        what = f"{len(trackers)} rows in common, of {numbers[0]} and {numbers[1]} events"
        expected, remedy = "the same rows and events", "make the tables of both again"
        raise InputError(describe(f"samples {' and '.join(names)}", what, expected, remedy))
    head = ["Noise", *(f"{text}, {how}" for text in _METRICS.values() for how in ("kept", "by truth"))]
    rows = [[name, *(_cell(table.loc[name, m]) for m in _METRICS for table in tables)] for name in trackers]
    facts = {"kept": names[0], "removed": names[1]}
    for key, table, wide in zip(("kept", "removed"), (kept, removed), tables, strict=True):
        facts |= {f"{key}_hits": _hits(table), f"{key}_targets": wide["n_targets"].max()}
    return f"{markdown_table(head, rows)}\n\n{_NOTE.format(**facts)}\n"


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Metrics of each measured tracker, best double majority first, with numbers of events and targets."""
    mine = table[(table["region"] == "all") & ~is_quoted(table) & table["metric"].isin(_METRICS)]
    wide = mine.pivot_table(index="tracker", columns="metric", values="value", sort=False).reindex(columns=[*_METRICS])
    of_dm = mine[mine["metric"] == "dm"].set_index("tracker")
    wide = wide.assign(n_events=of_dm["n_events"], n_targets=of_dm["n_den"])
    return wide.sort_values("dm", ascending=False, kind="stable")


def _hits(table: pd.DataFrame) -> str:
    """Hits used, in the words of the long table."""
    text = table.loc[(table["metric"] == "dm") & ~is_quoted(table), "selection"].iloc[0]
    return text.partition("; ")[2].partition("; ")[0]


def _cell(value: float) -> str:
    return "\N{EN DASH}" if np.isnan(value) else f"{100 * value:.1f}"
