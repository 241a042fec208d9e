"""The summary of a long table for people: Markdown for the report, LaTeX for the paper."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.evaluation.definitions import METRICS, PROMPT_RADIUS
from trackbench.evaluation.markup import DAGGER, latex_row, latex_text, markdown_table
from trackbench.evaluation.published import QUOTED, is_quoted
from trackbench.evaluation.sample import TRUTH_FILTER
from trackbench.evaluation.tables import FORWARD_ETA, differences
from trackbench.evaluation.trackformers import demo_note

_MEMORY = (
    "Memory rise: highest resident memory during reconstruction above the level before it, with libraries and event"
    " loaded and the first call excluded; CPU memory, in quoted rows GPU memory."
)


@dataclass(frozen=True)
class Column:
    """One column: metric of the long table, heading, and whether it is a fraction shown in per cent."""

    metric: str
    heading: str
    percent: bool = True


COLUMNS = (
    Column("dm", "DM eff. [%]"),
    Column("technical", "Technical eff. [%]"),
    Column("perfect", "Perfect [%]"),
    Column("fake_rate", "Fake, purity [%]"),
    Column("fake_all", "Fake, all cand. [%]"),
    Column("dup_rate", "Duplicates [%]"),
    Column("trackml_score", "TrackML score, hits used [%]"),
    Column("latency_ms", "Latency [ms]", percent=False),
    Column("peak_memory_mb", "Memory rise [MB]", percent=False),
)
_CPU = Column("cpu_ms", "CPU time [ms]", percent=False)  # shown where jobs ran side by side
FAKE_COLUMNS = (
    Column("fake_rate", "Purity, led by target"),
    Column("fake_dm", "DM, led by target"),
    Column("fake_dm_per_particle", "DM, per target"),
    Column("fake_perfect", "Perfect, led by target"),
    Column("fake_lhc", "LHC, led by target"),
    Column("fake_all", "All cand."),
    Column("fake_all_pt", "All cand., by fitted pT"),
    Column("acorn_atlas_fake_3", "acorn, atlas matching"),
    Column("maskformer_fake", "MaskFormer"),
    Column("maskformer_fake_postfilter", "MaskFormer, hits filtered"),
)
# region of the long table -> heading; the first two make up all targets, and so do the last two
LOSS_REGIONS = {
    "central": f"|eta| < {FORWARD_ETA:g}",
    "forward": f"|eta| >= {FORWARD_ETA:g}",
    "prompt": "Prompt",
    "secondary": "Secondary",
}
DIFFERENCE_COLUMNS = tuple(c for c in COLUMNS if c.metric in ("dm", "fake_rate", "fake_all", "trackml_score"))


def summary_markdown(
    table: pd.DataFrame,
    note: str = "",
    interval: str = "Clopper-Pearson",
    side_by_side: bool = False,
    conventions: bool = False,
) -> str:
    """Write the headline numbers, where tracks are lost, differences and footnotes as Markdown.

    table: long table of ``tables.metrics_table``
    note: description of the sample, e.g. "200 pile-up, sigma_z = 5.5 mm, all pixel hits"
    interval: name of the binomial interval in the table
    side_by_side: other jobs ran beside the timed ones, so CPU time stands beside the latency, and the caption says so
    conventions: add a table of the fake rates of every convention
    """
    measured, quoted = _split(table)
    columns = _columns(side_by_side)
    # All measured rows share one selection, which the caption states: repeating it makes the table too wide.
    rows = [[name, *_cells(measured, name, columns, _plain), "see below"] for name in _order(measured)]
    rows += [
        [f"{name} {DAGGER}", *_cells(quoted, name, columns, _plain), _selection(quoted, name)]
        for name in _quoted_names(quoted)
    ]
    parts = [markdown_table(["Tracker", *(c.heading for c in columns), "Selection"], rows)]
    parts += [" ".join(_caption(measured, note, interval, side_by_side))]
    parts += _loss_parts(table[~is_quoted(table)], _order(measured))
    difference = differences(measured)
    if len(difference):
        reference = difference["reference"].iloc[0]
        names = list(dict.fromkeys(difference["tracker"]))
        rows = [[name, *_cells(difference, name, DIFFERENCE_COLUMNS, _plain_signed)] for name in names]
        head = [f"Difference to {reference}", *(c.heading for c in DIFFERENCE_COLUMNS)]
        n_events = int(difference["n_events"].iloc[0])
        parts += [markdown_table(head, rows), f"Paired bootstrap over {n_events} events, 16 to 84 percentile."]
    parts += _fake_parts(measured, quoted) if conventions else []
    notes = _quoted_notes(quoted)
    parts += [f"{DAGGER} {notes[0]}", "\n".join(f"- {text}" for text in notes[1:])] if notes else []
    return "\n\n".join(parts) + "\n"


def summary_latex(
    table: pd.DataFrame, note: str = "", interval: str = "Clopper-Pearson", side_by_side: bool = False
) -> str:
    """Write the headline numbers as a LaTeX table (packages booktabs and graphicx). Arguments as above."""
    measured, quoted = _split(table)
    columns = _columns(side_by_side)
    rows = [[latex_text(name), *_cells(measured, name, columns, _math), "see caption"] for name in _order(measured)]
    quoted_rows = [
        [latex_text(name) + r"$^\dagger$", *_cells(quoted, name, columns, _math), latex_text(_selection(quoted, name))]
        for name in _quoted_names(quoted)
    ]
    head = latex_row(["Tracker", *(latex_text(c.heading) for c in columns), "Selection"])
    body = [head, r"\midrule", *map(latex_row, rows)]
    if quoted_rows:
        body += [r"\midrule", *map(latex_row, quoted_rows)]
    # Caveats of each number would fill a page: they stand in the Markdown summary and the long table.
    notes = [r"$^\dagger$" + latex_text(text) for text in _quoted_notes(quoted)[:1]]
    lines = [
        "% needs the packages booktabs and graphicx",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(' '.join(_caption(measured, note, interval, side_by_side)))}}}",
        r"\label{tab:trackbench}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}l}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        *([r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _loss_parts(measured: pd.DataFrame, trackers: list[str]) -> list[str]:
    """Table of the DM efficiency by direction and origin of the particle, and what the columns are.

    measured: rows of all regions; nothing if they have no particles
    """
    dm = Column("dm", "")
    regions = {name: measured[(measured["region"] == name) & (measured["metric"] == "dm")] for name in LOSS_REGIONS}
    regions = {name: rows for name, rows in regions.items() if len(rows)}
    if not regions:
        return []
    lines = [["Targets", *(f"{rows['n_den'].iloc[0]:.0f}" for rows in regions.values())]]
    for tracker in trackers:
        lines.append([tracker, *(_cells(rows, tracker, [dm], _plain)[0] for rows in regions.values())])
    head = ["Where tracks are lost: DM eff. [%]", *(LOSS_REGIONS[name] for name in regions)]
    explained = (
        f"Prompt: produced within {PROMPT_RADIUS:g} mm of the beam line, secondary: farther away; targets are the"
        " particles in each column, all events. The two directions make up all targets, and so do the two origins."
    )
    return [markdown_table(head, lines), explained]


def _fake_parts(measured: pd.DataFrame, quoted: pd.DataFrame) -> list[str]:
    """Table of the fake rates of every convention measured, quoted ones below, and their definitions."""
    known = set(measured["metric"])
    columns = [column for column in FAKE_COLUMNS if column.metric in known]
    rows = [[name, *_cells(measured, name, columns, _plain)] for name in _order(measured)]
    quoted = quoted[quoted["metric"].isin([column.metric for column in columns])]
    rows += [[f"{name} {DAGGER}", *_cells(quoted, name, columns, _plain)] for name in quoted["tracker"].unique()]
    definitions = [f"- {c.heading}: {METRICS[c.metric].definition}." for c in columns]
    head = ["Fake rate [%]", *(c.heading for c in columns)]
    return [markdown_table(head, rows), "\n".join(definitions)]


def _columns(side_by_side: bool) -> tuple[Column, ...]:
    if not side_by_side:
        return COLUMNS
    place = [column.metric for column in COLUMNS].index("latency_ms")
    return (*COLUMNS[:place], _CPU, *COLUMNS[place:])


def _split(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = table[table["region"] == "all"]
    quoted = is_quoted(table)
    return table[~quoted], table[quoted]


def _order(measured: pd.DataFrame) -> list[str]:
    """Trackers by DM, best first; ties in the table's order."""
    value = measured[measured["metric"] == "dm"].set_index("tracker")["value"]
    names = list(dict.fromkeys(measured["tracker"]))
    return sorted(names, key=lambda name: -np.nan_to_num(value.get(name, np.nan), nan=-1.0))


def _quoted_names(quoted: pd.DataFrame) -> list[str]:
    """Quoted trackers with a DM efficiency; the other quoted numbers stay in the long table."""
    return list(dict.fromkeys(quoted[quoted["metric"] == "dm"]["tracker"]))


def _selection(rows: pd.DataFrame, tracker: str) -> str:
    found = rows[(rows["metric"] == "dm") & (rows["tracker"] == tracker)]["selection"]
    return found.iloc[0].replace(f"; {TRUTH_FILTER}", "") if len(found) else ""


def _cells(rows: pd.DataFrame, tracker: str, columns: Iterable[Column], write) -> list[str]:
    mine = rows[rows["tracker"] == tracker].drop_duplicates("metric").set_index("metric")
    cells = []
    for column in columns:
        if column.metric not in mine.index:
            cells.append(write(np.nan, np.nan, np.nan, column.percent))
            continue
        value, lo, hi = mine.loc[column.metric, ["value", "lo", "hi"]].astype(float)
        if not column.percent:  # 16 to 84 percentile of latency is a spread, not an error: not shown
            lo = hi = np.nan
        cells.append(write(value, lo, hi, column.percent))
    return cells


def _numbers(value: float, lo: float, hi: float, percent: bool, sign: str = "") -> tuple[str, str, str]:
    """Texts of value, upper and lower error; errors are empty when unknown."""
    scale = 100.0 if percent else 1.0
    if np.isnan(value):
        return "", "", ""
    if np.isnan(lo) or np.isnan(hi) or lo == hi:  # a bootstrap without spread knows no error
        number = value * scale
        return (f"{number:{sign}.0f}" if abs(number) >= 1000 else f"{number:{sign}.4g}"), "", ""
    up, down = max(hi - value, 0.0) * scale, max(value - lo, 0.0) * scale
    digits = 1 if max(up, down) >= 0.95 else 2
    return f"{value * scale:{sign}.{digits}f}", f"{up:.{digits}f}", f"{down:.{digits}f}"


def _plain(value: float, lo: float, hi: float, percent: bool, sign: str = "") -> str:
    number, up, down = _numbers(value, lo, hi, percent, sign)
    if not number:
        return "\N{EN DASH}"
    return (f"{number} +{up} -{down}" if up else number).replace("-", "\N{MINUS SIGN}")


def _plain_signed(value: float, lo: float, hi: float, percent: bool) -> str:
    return _plain(value, lo, hi, percent, "+")


def _math(value: float, lo: float, hi: float, percent: bool) -> str:
    number, up, down = _numbers(value, lo, hi, percent)
    if not number:
        return "--"
    return f"${number}^{{+{up}}}_{{-{down}}}$" if up else f"${number}$"


def _caption(measured: pd.DataFrame, note: str, interval: str, side_by_side: bool) -> list[str]:
    """Sentences of the caption: sample, selection, intervals, conditions of the timing, warnings."""
    headline = measured[measured["metric"] == "dm"]
    if headline.empty:
        return ["Published numbers only; nothing was measured."]
    n_events = int(headline["n_events"].iloc[0])
    sample = headline["source"].iloc[0].removeprefix("measured here (").removesuffix(")")
    sample = sample.replace("simulated", "simulated, TrackML-like")
    selection = _selection(headline, headline["tracker"].iloc[0])
    sentences = [
        f"{n_events} test event{'s' if n_events != 1 else ''} ({sample}{'; ' + note if note else ''}).",
        f"Particles: {selection}.",
        f"Ratios are pooled over events; errors are 68.27 % {interval} intervals for k of n, bootstrap over events"
        " for duplicates and scores (none on one event).",
        "Purity fakes are among candidates led by a selected particle; all-candidate fakes are all those that no"
        " particle at all matches by double majority.",
        "TrackML score: of the hits used, with their weights renormalised to 1, so a score of pixel hits does not"
        " compare with one of the full detector.",
    ]
    if headline["selection"].str.contains(TRUTH_FILTER, regex=False).any():
        sentences.insert(1, f"WARNING {TRUTH_FILTER}.")
    conditions = measured[measured["metric"] == "latency_ms"]["selection"].unique()
    if len(conditions):
        sentences.append(f"Latency: median over events; {'; '.join(conditions)}.")
        if side_by_side:
            sentences.append("Jobs ran side by side, which lengthens the latency: compare CPU times.")
    if (measured["metric"] == "peak_memory_mb").any():
        sentences.append(_MEMORY)
    return [*sentences, *demo_note(measured["tracker"])]


def _quoted_notes(quoted: pd.DataFrame) -> list[str]:
    """Say that the marked rows are quoted and from where, then the caveats of each tracker."""
    names = _quoted_names(quoted)
    if not names:
        return []
    shown = quoted[quoted["tracker"].isin(names) & quoted["metric"].isin([column.metric for column in COLUMNS])]
    trackers: dict[str, list[str]] = {}
    caveats: dict[str, list[str]] = {}
    for row in shown.itertuples():
        source, _, caveat = row.source.removeprefix(QUOTED + ": ").removesuffix("]").partition(" [")
        trackers.setdefault(source, []).append(row.tracker)
        if caveat:
            caveats.setdefault(row.tracker, []).append(f"{row.metric}: {caveat}")
    sources = "; ".join(f"{source} ({', '.join(dict.fromkeys(found))})" for source, found in trackers.items())
    first = f"Quoted, not measured here: other data, hardware and selection (last column). Sources: {sources}."
    return [first, *(f"{name}: {'; '.join(facts)}." for name, facts in caveats.items())]
