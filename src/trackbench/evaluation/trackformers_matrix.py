"""Models trained on one set and tested on another: the matrix of scores, with floor and ceilings of each test set."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from trackbench.errors import ConfigError, describe
from trackbench.evaluation.markup import DAGGER, markdown_table
from trackbench.evaluation.trackformers import METRICS, Entry, demo_note, event_mean, ratios_by_event
from trackbench.evaluation.trackformers_published import matrix_rows

COLUMNS = (
    "row",
    "kind",
    "trained_on",
    "set",
    "metric",
    "value",
    "lo",
    "hi",
    "n_events",
    "quoted",
    "quoted_source",
    "source",
    "label",
)


def matrix_table(
    entries: Sequence[Entry],
    published: pd.DataFrame | None = None,
    quoted_as: Mapping[str, str] | None = None,
    metric: str = "trackml_score",
    source: str = "measured here (simulated)",
) -> pd.DataFrame:
    """Build the matrix as a long table, one row per pair of training and test set.

    entries: rows of every test set; trained ones are named ``name`` or ``name@SET``, with ``trained_on``; floor and
        ceilings are needed on every test set
    published: of ``trackformers_published.read_published``
    quoted_as: name of a trained row -> row of ``published`` whose numbers stand beside it
    metric: of ``trackformers.METRICS``
    Returns ``COLUMNS``: value = unweighted mean over events, lo hi = +- its standard error; ``quoted`` = published
    number, NaN without; pairs that are only published have no value. ``trained_on`` is "" for floor and ceilings.
    Raises ConfigError for an unknown metric, a test set without floor or ceiling, a missing published row.
    """
    if metric not in METRICS:
        raise ConfigError(describe("matrix metric", f"'{metric}' is not known", "one of " + ", ".join(METRICS)))
    _check_entries(entries)
    rows = []
    for entry in entries:
        if entry.kind == "untrained":
            continue
        mean, error, n_events = event_mean(ratios_by_event(entry)[metric])
        numbers = {"value": mean, "lo": mean - error, "hi": mean + error, "n_events": n_events}
        names = {"row": entry.row.partition("@")[0], "kind": entry.kind, "set": entry.set_name, "metric": metric}
        rows.append({**names, **numbers, "trained_on": entry.trained_on, "source": source, "label": entry.label})
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"quoted": float, "quoted_source": object})
    for row, name in (quoted_as or {}).items() if published is not None else ():
        table = _with_quoted(table, row, name, matrix_rows(published), metric)
    return table


def _check_entries(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.kind == "trained" and not entry.trained_on:
            what = f"row {entry.row} of {entry.set_name} does not say the set of its training"
            raise ConfigError(describe("train and test matrix", what, "trained_on"))
    sets = {entry.set_name for entry in entries}
    for kind in ("floor", "ceiling"):
        lacking = sorted(sets - {entry.set_name for entry in entries if entry.kind == kind})
        if lacking:
            what = f"no {kind} row for {lacking[0]}"
            raise ConfigError(describe("train and test matrix", what, "one for every test set"))


def _with_quoted(table: pd.DataFrame, row: str, name: str, published: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Put the numbers of the published row ``name`` beside those of ``row``."""
    if name not in set(published["row"]):
        known = ", ".join(dict.fromkeys(published["row"]))
        raise ConfigError(describe(f"quoted_as.{row}", f"no published row '{name}'", "one of " + known))
    chosen = published[(published["row"] == name) & (published["metric"] == metric)]
    table = table.copy()
    extra = []
    for number in chosen.itertuples():
        here = (table["row"] == row) & (table["set"] == number.set) & (table["trained_on"] == number.trained_on)
        if here.any():
            table.loc[here, ["quoted", "quoted_source"]] = [number.value, number.source]
            continue
        names = {"row": row, "kind": "trained", "trained_on": number.trained_on, "set": number.set, "metric": metric}
        facts = {"n_events": 0, "quoted": number.value, "quoted_source": number.source, "source": "", "label": ""}
        extra.append({**names, **facts})
    if not extra or row not in set(table["row"]):
        return table
    return pd.DataFrame([*table.to_dict("records"), *extra], columns=list(COLUMNS))


def matrix_lines(table: pd.DataFrame, row: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Lines and columns of the matrix of one trained row, for a table or a heat map.

    Returns the lines (name of the row, trained_on, text): one per training set, then floor and ceilings; and the
    test sets. Sets are in the order of the number of tracks.
    """
    mine = table[(table["row"] == row) & (table["kind"] == "trained")]
    trained = sorted(dict.fromkeys(mine["trained_on"]), key=set_size)
    lines = [(row, name, f"trained on {name}") for name in trained]
    others = table[table["kind"].isin(["floor", "ceiling"])]
    for kind in ("floor", "ceiling"):
        names = dict.fromkeys(others.loc[others["kind"] == kind, "row"])
        lines += [(name, "", f"{kind}: {name}") for name in names]
    return lines, sorted(dict.fromkeys([*mine["set"], *others["set"]]), key=set_size)


def cell(table: pd.DataFrame, row: str, trained_on: str, set_name: str) -> pd.Series | None:
    """The entry of one pair, None if there is none."""
    at = (table["row"] == row) & (table["trained_on"] == trained_on) & (table["set"] == set_name)
    return table[at].iloc[0] if at.any() else None


def matrix_markdown(table: pd.DataFrame, note: str = "") -> str:
    """Write the matrix of every trained row as Markdown. note: description of the sample."""
    parts = []
    for row in dict.fromkeys(table.loc[table["kind"] == "trained", "row"]):
        lines, sets = matrix_lines(table, row)
        cells = [[text, *(_written(cell(table, name, on, s)) for s in sets)] for name, on, text in lines]
        labels = ", ".join(label for label in dict.fromkeys(table.loc[table["row"] == row, "label"]) if label)
        parts.append(f"## {row}{f' ({labels})' if labels else ''}")
        parts.append(markdown_table(["", *(f"tested on {name}" for name in sets)], cells))
    metric = table["metric"].iloc[0] if len(table) else ""
    known = "; ".join(source for source in dict.fromkeys(table["quoted_source"].dropna()) if source)
    origins = ", ".join(dict.fromkeys(source for source in table["source"] if source))
    text = [f"{metric}: unweighted mean over events +- standard error; {origins}{'; ' + note if note else ''}."]
    text += demo_note(table["label"])
    text += [f"In brackets {DAGGER} quoted, other events: {known}."] if known else []
    parts.append(" ".join(text))
    return "\n\n".join(parts) + "\n"


def _written(entry: pd.Series | None) -> str:
    if entry is None:
        return "\N{EN DASH}"
    parts = []
    if not np.isnan(entry["value"]):
        error = entry["hi"] - entry["value"]
        parts.append(f"{entry['value']:.3f}" + ("" if np.isnan(error) else f" \N{PLUS-MINUS SIGN} {error:.3f}"))
    if not np.isnan(entry["quoted"]):
        parts.append(f"({entry['quoted']:g} {DAGGER})")
    return " ".join(parts) or "\N{EN DASH}"


def set_size(set_name: str) -> tuple[float, str]:
    """Sort key: the number of tracks a set starts at; full events last."""
    first = set_name.partition("-")[0]
    return (float(first) if first.isdigit() else float("inf"), set_name)
