"""The published study of block sizes of HEPTv2, in panels beside an ablation of ours: quoted, in grey."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from trackbench.plotting.style import DAGGER, check_columns

QUOTED_COLUMNS = ("metric", "value")
LINE_MARKERS = ("o", "s", "^", "v", "D", "P")  # of the lines of an ablation
_QUOTED_DM = re.compile(r"dm/block:(\d+):(\w+)")
_QUOTED_COST = re.compile(r"latency_ms/encoder_block:(\d+)")
_QUOTED_FLOPS = re.compile(r"flops/encoder_block:(\d+)")
_GREYS = ("0.25", "0.45", "0.62")


def quoted_blocks(published: pd.DataFrame) -> pd.DataFrame:
    """Published DM per block and order, median time and operations of the encoder per block.

    published: of ``published.read_published``
    Returns columns quantity ("dm", "encoder_ms" or "encoder_flops", in units of the smallest block), x (block), line
    (order, "" for the encoder), value.
    """
    check_columns("published numbers", published, QUOTED_COLUMNS)
    patterns = {"dm": _QUOTED_DM, "encoder_ms": _QUOTED_COST, "encoder_flops": _QUOTED_FLOPS}
    rows = []
    for entry in published.itertuples():
        for quantity, pattern in patterns.items():
            if match := pattern.fullmatch(entry.metric):
                line = match[2].replace("_", " + ") if quantity == "dm" else ""
                rows.append((quantity, int(match[1]), line, entry.value))
    return pd.DataFrame(rows, columns=["quantity", "x", "line", "value"])


def number_axis(ax: Axes, values: pd.Series, label: str) -> None:
    """Ticks at the values of a setting and nowhere else, on a logarithmic axis if all are positive."""
    known = sorted(set(values))
    if known and known[0] > 0:
        ax.set_xscale("log", base=2)
        ax.set_xlim(known[0] / 1.4, known[-1] * 1.4)
    ax.xaxis.set_major_locator(FixedLocator(known))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


def draw_quoted(top: Axes, bottom: Axes, quoted: pd.DataFrame) -> None:
    """Draw the published study, in grey and on a grey ground, so that nobody takes it for measured here.

    quoted: of ``quoted_blocks``, at least a row
    """
    dm = quoted[quoted["quantity"] == "dm"]
    for k, (line, points) in enumerate(dm.groupby("line", sort=False)):
        look = {"color": _GREYS[k % len(_GREYS)], "marker": LINE_MARKERS[k % len(LINE_MARKERS)]}
        top.plot(points["x"], points["value"], markerfacecolor="white", label=f"{line} {DAGGER}", **look)
    if len(dm):
        top.legend(loc="lower right", fontsize=11)
    ends = np.nanmin(dm["value"], initial=1.0), np.nanmax(dm["value"], initial=0.0)
    top.set_ylim(ends[0] - 0.25 * (ends[1] - ends[0]) - 0.005, ends[1] + 0.45 * (ends[1] - ends[0]) + 0.005)
    top.set_ylabel(f"DM efficiency, quoted {DAGGER}")
    cost = quoted[quoted["quantity"] == "encoder_ms"].sort_values("x")
    flops = quoted[quoted["quantity"] == "encoder_flops"].set_index("x")["value"]
    bottom.plot(cost["x"], cost["value"], color=_GREYS[0], marker="o", markerfacecolor="white")
    for entry in cost.itertuples():
        text = f"{flops[entry.x]:g}" if entry.x in flops else ""
        bottom.annotate(text, (entry.x, entry.value), (0, 9), textcoords="offset points", ha="center", fontsize=9)
    bottom.set_ylabel(f"Encoder, median [ms], quoted {DAGGER}")
    bottom.set_ylim(0, 1.25 * max([1.0, *cost["value"]]))
    notes = (
        "not these events: TrackML,\npublished size and training",
        "A100, TrackML, published size;\nnumbers: operations, block 128 = 1",
    )
    for ax, note in zip((top, bottom), notes, strict=True):
        ax.set_facecolor("0.95")
        number_axis(ax, quoted["x"], "block")
        low = ax is bottom
        place = {"transform": ax.transAxes, "va": "bottom" if low else "top", "fontsize": 10, "color": "0.3"}
        ax.text(0.03, 0.04 if low else 0.97, f"{DAGGER} HEPTv2 block-size study:\n{note}", **place)
