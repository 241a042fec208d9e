"""The first-phase table for people: Markdown for the report, LaTeX for the paper."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.evaluation.markup import DAGGER, latex_row, latex_text, markdown_table
from trackbench.evaluation.published import QUOTED
from trackbench.evaluation.trackformers import FAST_HITS, FAST_PT, KINDS, METRICS, demo_note


@dataclass(frozen=True)
class Column:
    """One column: metric of the long table and heading; how = "ratio" (value +- error), "ms" or "number"."""

    metric: str
    heading: str
    how: str = "ratio"


# Quoted rows, and networks on a GPU, have no CPU time.
_WALL_INSTEAD = {"network_cpu_ms": "network_ms", "clustering_cpu_ms": "clustering_ms"}
_KIND_WORDS = {
    "floor": "floor: no machine learning",
    "ceiling": "ceiling: made with truth",
    "trained": "trained",
    "untrained": "not trained",
    QUOTED: "quoted",
}
_DEFINITIONS = (
    "Ratios are unweighted means over events +- standard error, as the source quotes them; the csv has the pooled ones"
    " beside. Targets are all particles with hits, so particles of one or two hits keep DM below 1. DM and perfect: per"
    " particle, candidates of at least 3 hits; LHC: per candidate of at least 3 hits; LHC, all: the same per cluster of"
    f" any size, as the source counts. DM, pT > {FAST_PT:g}: only particles with pT > {FAST_PT:g} GeV and at least"
    f" {FAST_HITS} hits, the HEPTv2 convention. Score and FitAccuracy (the score without hit weights) take clusters of"
    " any size; above floor: difference of the scores event by event."
)


def first_phase_markdown(table: pd.DataFrame, note: str = "", timing: str = "") -> str:
    """Write the table of every set as Markdown.

    table: of ``trackformers.first_phase_table``
    note: description of the sample; timing: device and conditions of the measured times
    """
    parts = []
    for set_name, rows in table.groupby("set", sort=False):
        columns = _columns(rows)
        lines = [[_name(key), _KIND_WORDS[key[1]], *_cells(rows, key, columns)] for key in _order(rows)]
        parts += [f"## {set_title(rows, set_name)}", markdown_table(["Row", "Kind", *_heads(columns)], lines)]
    parts.append(" ".join(_caption(table, note, timing)))
    notes = quoted_notes(table)
    parts += [f"{DAGGER} {notes[0]}", "\n".join(f"- {text}" for text in notes[1:])] if notes else []
    return "\n\n".join(parts) + "\n"


def first_phase_latex(table: pd.DataFrame, note: str = "", timing: str = "") -> str:
    """Write the table of all sets as one LaTeX table (packages booktabs and graphicx). Arguments as above."""
    columns = _columns(table)
    body = [latex_row(["Row", *map(latex_text, _heads(columns))])]
    for set_name, rows in table.groupby("set", sort=False):
        title = latex_text(set_title(rows, set_name))
        body += [r"\midrule", latex_row([rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{{title}}}}}"])]
        for key in _order(rows):
            cells = [cell.replace("\N{PLUS-MINUS SIGN}", r"$\pm$") for cell in _cells(rows, key, columns)]
            cells = [cell.replace("\N{MINUS SIGN}", "$-$").replace("\N{EN DASH}", "--") for cell in cells]
            body.append(latex_row([latex_text(_name(key)).replace(DAGGER, r"$^\dagger$"), *cells]))
    notes = [r"$^\dagger$" + latex_text(text) for text in quoted_notes(table)[:1]]
    lines = [
        "% needs the packages booktabs and graphicx",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(' '.join(_caption(table, note, timing)))}}}",
        r"\label{tab:trackformers}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        *([r"\par\smallskip\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def set_title(rows: pd.DataFrame, set_name: str) -> str:
    """Name a set with its size, e.g. ``10-50 tracks per event (100 events; on average 29.8 tracks, 301 hits)``."""
    measured = rows[rows["kind"] == "floor"].set_index("metric")
    n_events = int(measured.loc["n_hits", "n_events"])
    tracks, hits = (measured.loc[name, "value"] for name in ("n_tracks", "n_hits"))
    events = f"{n_events} test event" + ("" if n_events == 1 else "s")
    return f"{set_name} tracks per event ({events}; on average {tracks:.3g} tracks, {hits:.0f} hits)"


def quoted_notes(table: pd.DataFrame) -> list[str]:
    """Say that the marked rows are quoted and from where, then the caveats of each."""
    shown = [*(f"{metric}/event_mean" for metric in METRICS), "network_ms", "clustering_ms", "n_weights"]
    quoted = table[(table["kind"] == QUOTED) & table["metric"].isin(shown)]
    if quoted.empty:
        return []
    sources: dict[str, None] = {}
    caveats: dict[str, dict[str, None]] = {}
    for row in quoted.itertuples():
        source, _, caveat = row.source.removeprefix(QUOTED + ": ").removesuffix("]").partition(" [")
        sources[source] = None
        if caveat:
            caveats.setdefault(row.row, {})[f"{row.metric.partition('/')[0]}: {caveat}"] = None
    first = (
        f"Quoted, not measured here: TrackML events, other hardware, errors not given. Sources: {'; '.join(sources)}."
    )
    return [first, *(f"{name}: {'; '.join(facts)}." for name, facts in caveats.items())]


def _columns(rows: pd.DataFrame) -> list[Column]:
    """Columns with anything in them."""
    floor = rows.loc[rows["kind"] == "floor", "row"].iloc[0]
    columns = [
        Column("trackml_score/event_mean", "TrackML score"),
        Column(f"trackml_score/minus:{floor}", "Above floor", "signed"),
        Column("fit_accuracy/event_mean", "FitAccuracy"),
        Column("perfect/event_mean", "Perfect"),
        Column("dm/event_mean", "DM"),
        Column("lhc/event_mean", "LHC"),
        Column("lhc_all/event_mean", "LHC, all"),
        Column("dm_fast/event_mean", f"DM, pT > {FAST_PT:g}"),
        Column("network_cpu_ms", "Network [ms]", "ms"),
        Column("clustering_cpu_ms", "Clustering [ms]", "ms"),
        Column("n_weights", "Weights", "number"),
    ]
    present = set(rows["metric"])
    present |= {cpu for cpu, wall in _WALL_INSTEAD.items() if wall in present}
    return [column for column in columns if column.metric in present]


def _heads(columns: list[Column]) -> list[str]:
    return [column.heading for column in columns]


def _order(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Rows (name, kind, label) by kind; trained and other trackers best first, the rest in the table's order."""
    keys = list(dict.fromkeys(zip(rows["row"], rows["kind"], rows["label"], strict=True)))
    score = rows[rows["metric"] == "trackml_score/event_mean"]
    value = dict(zip(zip(score["row"], score["kind"], strict=True), score["value"], strict=True))

    def place(key: tuple) -> tuple:
        ranked = key[1] in ("trained", "untrained")
        return KINDS.index(key[1]), -np.nan_to_num(value.get(key[:2], np.nan), nan=-1.0) if ranked else 0.0

    return sorted(keys, key=place)


def _name(key: tuple[str, str, str]) -> str:
    row, kind, label = key
    return f"{row} {DAGGER}" if kind == QUOTED else f"{row} ({label})" if label else row


def _cells(rows: pd.DataFrame, key: tuple[str, str, str], columns: list[Column]) -> list[str]:
    mine = rows[(rows["row"] == key[0]) & (rows["kind"] == key[1])].set_index("metric")
    cells = []
    for column in columns:
        metric = column.metric if column.metric in mine.index else _WALL_INSTEAD.get(column.metric, column.metric)
        if metric not in mine.index:
            cells.append("\N{EN DASH}")
            continue
        value, hi = (float(mine.loc[metric, name]) for name in ("value", "hi"))
        cells.append(_written(value, hi - value, column.how, key[1] == QUOTED))
    return cells


def _written(value: float, error: float, how: str, is_quoted: bool) -> str:
    """Text of one number; quoted ones with the digits that they have."""
    if np.isnan(value):
        return "\N{EN DASH}"
    if how == "number":
        return f"{value:,.0f}"
    if is_quoted:
        return f"{value:g}"
    if how == "ms":
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    sign = "+" if how == "signed" else ""
    digits = 3 if np.isnan(error) or error >= 5e-4 or error == 0 else 4
    text = f"{value:{sign}.{digits}f}" + ("" if np.isnan(error) else f" \N{PLUS-MINUS SIGN} {error:.{digits}f}")
    return text.replace("-", "\N{MINUS SIGN}")


def _caption(table: pd.DataFrame, note: str, timing: str) -> list[str]:
    measured = table[table["kind"] != QUOTED]
    if measured.empty:
        return ["Nothing was measured."]
    origin = measured["source"].iloc[0].removeprefix("measured here (").removesuffix(")")
    sentences = [f"Measured rows: {origin}{'; ' + note if note else ''}.", _DEFINITIONS]
    labels = [label for label in dict.fromkeys(measured["label"]) if label]
    if labels:
        sentences.append(f"In brackets the label of the model: {', '.join(labels)}.")
    sentences += demo_note(labels)
    if measured["metric"].isin(["network_ms", "clustering_ms"]).any():
        how = "in CPU process time of jobs that may run side by side, networks on a GPU by the wall clock"
        sentences.append(f"Times: median over events, {how}{'; ' + timing if timing else ''}.")
    return sentences
