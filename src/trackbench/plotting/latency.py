"""Latency of all trackers against the number of hits, on events of several pile-ups and tiled, and throughput."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from trackbench.errors import ConfigError, describe
from trackbench.plotting.style import (
    DAGGER,
    Header,
    check_columns,
    draw_header,
    draw_note,
    new_figure,
    styled,
    tracker_style,
)

TIMING_COLUMNS = ("tracker", "sample", "n_hits", "stage")
LATENCY_COLUMNS = ("protocol", "tracker", "sample", "n_hits", "n_calls", "median_ms", "lo_ms", "hi_ms", "p95_ms")
QUOTED_COLUMNS = ("tracker", "n_hits", "latency_ms")
MIN_RANGE = 1.5  # largest over smallest number of hits, for an exponent
CLOCKS = {"wall_s": "wall clock", "cpu_s": "CPU time"}


def latency_table(
    timing: pd.DataFrame, protocol: str, clock: str = "wall_s", pileup: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Median latency and its spread for each tracker and sample.

    timing: rows of all ``*-timing.csv`` with the columns ``tracker`` and ``sample`` added; tiled events
        have one sample per size. Only rows with ``stage`` = "total" count.
    protocol: such as "pile-up scan" or "tiled", copied into the table
    clock: "wall_s" or "cpu_s"
    pileup: sample -> mean number of soft collisions, of the samples where it is known
    Returns ``LATENCY_COLUMNS`` plus ``exponent``: one row per tracker and sample with the median number
    of hits, the median, 16 %, 84 % and 95 % quantiles [ms], and the slope of log(median) against
    log(n_hits) of the tracker (NaN if sizes differ by less than a factor
    ``MIN_RANGE``, or if the median does not rise with every size).
    With ``pileup`` also ``pileup`` (NaN where unknown) and ``events_per_s``: events over the sum of their seconds, one
    after the other. Raises ConfigError for a missing column or clock.
    """
    if clock not in CLOCKS:
        raise ConfigError(describe("latency clock", f"'{clock}' is not known", "one of " + ", ".join(CLOCKS)))
    check_columns("timing table", timing, (*TIMING_COLUMNS, clock))
    total = timing[timing["stage"] == "total"]
    rows = []
    for (tracker, sample), calls in total.groupby(["tracker", "sample"], sort=True):
        quantiles = np.quantile(1e3 * calls[clock].to_numpy(np.float64), (0.5, 0.16, 0.84, 0.95))
        rows.append((protocol, tracker, sample, float(calls["n_hits"].median()), len(calls), *quantiles))
    table = pd.DataFrame(rows, columns=list(LATENCY_COLUMNS))
    table = table.sort_values(["tracker", "n_hits", "sample"], ignore_index=True)
    slope = {tracker: _exponent(mine) for tracker, mine in table.groupby("tracker")}
    table = table.assign(exponent=table["tracker"].map(slope).astype(np.float64))
    if pileup is None:
        return table
    # Of one sample all calls are of different events, so the mean is seconds per event.
    seconds = total.groupby(["tracker", "sample"])[clock].mean()
    keys = pd.MultiIndex.from_frame(table[["tracker", "sample"]])
    rate = 1 / seconds.reindex(keys).replace(0.0, np.nan).to_numpy(np.float64)
    return table.assign(pileup=table["sample"].map(pileup).astype(np.float64), events_per_s=rate)


def _exponent(table: pd.DataFrame) -> float:
    usable = table[(table["n_hits"] > 0) & (table["median_ms"] > 0)]
    rises = np.diff(usable.sort_values("n_hits")["median_ms"]) > 0
    # No power law to speak of, or sizes so close that noise would be one.
    if usable["n_hits"].max() < MIN_RANGE * usable["n_hits"].min() or not len(rises) or not rises.all():
        return float("nan")
    return float(np.polyfit(np.log(usable["n_hits"]), np.log(usable["median_ms"]), 1)[0])


@styled
def latency_figure(
    timing: dict[str, pd.DataFrame],
    statement: str,
    clock: str = "wall_s",
    quoted: pd.DataFrame | None = None,
    header: Header | None = None,
    pileup: Mapping[str, float] | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Median latency with its 16-84 % range against the number of hits, one panel per protocol; throughput in the last.

    timing: protocol ("pile-up scan", "tiled") -> timing rows, see ``latency_table``
    statement: what the reader must know: device, precision, threads, warm-up; written in the figure
    clock: "wall_s" or "cpu_s"
    quoted: published numbers with ``QUOTED_COLUMNS``: open markers and a dagger, in every panel of latency
    pileup: sample -> mean pile-up; where two or more are known, one more panel has events per second against it
    Returns the figure and ``latency_table`` of all protocols (quoted rows: protocol "quoted"). Raises
    ConfigError for a missing column or an empty statement.
    """
    if not statement:
        raise ConfigError(describe("latency statement", "empty", "device, precision, threads and warm-up"))
    tables = {name: latency_table(frame, name, clock, pileup) for name, frame in timing.items()}
    with_pileup = pileup is not None and any(len(set(table["pileup"].dropna())) > 1 for table in tables.values())
    n_panels = max(len(tables), 1)
    figure = new_figure(8.0 if n_panels + with_pileup < 2 else 6.5 * (n_panels + with_pileup), 6.5)
    axes = [figure.add_subplot(1, n_panels + with_pileup, 1)]
    axes += [figure.add_subplot(1, n_panels + with_pileup, k + 1, sharey=axes[0]) for k in range(1, n_panels)]
    drawn = [table for table in tables.values() if len(table)]
    if quoted is not None:
        drawn.append(_quoted_rows(quoted))
    for ax, (name, table) in zip(axes, tables.items(), strict=False):
        _draw_panel(ax, name, table, drawn[-1] if quoted is not None else None)
        ax.label_outer()
    table = pd.concat(drawn, ignore_index=True) if drawn else pd.DataFrame(columns=[*LATENCY_COLUMNS, "exponent"])
    if len(table) == 0:
        draw_note(axes[0], "no timing to show")
    _set_ranges(axes, table)
    axes[0].set_ylabel(f"Latency per event [ms], {CLOCKS[clock]}")
    note = statement + "\nmedian, bars 16-84 %" + (f", {DAGGER} quoted: other device" if quoted is not None else "")
    if with_pileup:
        axes.append(figure.add_subplot(1, n_panels + 1, n_panels + 1))
        _draw_throughput(axes[-1], table[table["pileup"].notna()])
        note += "; throughput: events over the sum of their times, one after the other"
    draw_header(axes[0], header, note, right=axes[-1])
    return figure, table


def _quoted_rows(quoted: pd.DataFrame) -> pd.DataFrame:
    check_columns("quoted latencies", quoted, QUOTED_COLUMNS)
    table = pd.DataFrame({"protocol": "quoted", "tracker": quoted["tracker"], "n_hits": quoted["n_hits"]})
    return table.assign(median_ms=quoted["latency_ms"].astype(np.float64))


def _draw_panel(ax: Axes, protocol: str, table: pd.DataFrame, quoted: pd.DataFrame | None) -> None:
    for tracker, mine in table.groupby("tracker", sort=True):
        style = tracker_style(tracker)
        value = mine["median_ms"].to_numpy()
        bars = np.clip([value - mine["lo_ms"], mine["hi_ms"] - value], 0, None)
        slope = mine["exponent"].iloc[0]
        label = tracker if np.isnan(slope) else rf"{tracker} ($\propto N^{{{slope:.2f}}}$)"
        options = {"color": style.color, "marker": style.marker, "label": label, "linewidth": 1.2}
        ax.errorbar(mine["n_hits"], value, yerr=bars, **options)
    if quoted is not None:
        for tracker, mine in quoted.groupby("tracker", sort=True):
            style = tracker_style(tracker)
            options = {"color": style.color, "marker": style.marker, "markerfacecolor": "white", "linestyle": ":"}
            ax.errorbar(mine["n_hits"], mine["median_ms"], label=f"{tracker} {DAGGER}", **options)
    if len(table) or quoted is not None:
        ax.legend(loc="upper left", ncols=2, title=f"{protocol} events", alignment="left", fontsize=11, frameon=True)
    ax.set_xlabel("Number of hits")


def _draw_throughput(ax: Axes, table: pd.DataFrame) -> None:
    """Events per second against pile-up, in the looks that the legend of the first panel explains."""
    for tracker, mine in table.groupby("tracker", sort=True):
        style, mine = tracker_style(tracker), mine.sort_values("pileup")
        ax.plot(mine["pileup"], mine["events_per_s"], color=style.color, marker=style.marker, linewidth=1.2)
    known = sorted(table["pileup"].unique())
    if known[0] > 0:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=1)
    ax.xaxis.set_major_locator(FixedLocator(known))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel(r"Mean pile-up $\langle\mu\rangle$")
    ax.set_ylabel("Events per second")


def _set_ranges(axes: list[Axes], table: pd.DataFrame) -> None:
    """Logarithmic axes; the upper part is left to the legend."""
    for ax in axes:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 5k, 20k, 100k
        ax.xaxis.set_minor_formatter(NullFormatter())
    values = table[["median_ms", "lo_ms", "hi_ms"]].to_numpy(np.float64) if len(table) else np.array([1.0])
    values = values[values > 0]
    if values.size == 0:
        return
    low, high = np.log10(values.min()) - 0.2, np.log10(values.max()) + 0.2
    rows = max((len(ax.get_legend_handles_labels()[0]) + 1) // 2 + 1 for ax in axes)
    share = min(0.055 * rows + 0.02, 0.6)  # of the height, for the legend
    axes[0].set_ylim(10**low, 10 ** (low + (high - low) / (1 - share)))
