"""Look of every figure: style sheet, colour and marker of each tracker, header text, saving.

Figures are built without pyplot, so nothing global changes and nothing needs closing. Colours are the
colour-blind-safe sequences of M. A. Petroff, arXiv:2107.02270 (ten colours, then three of the eight).
"""

import functools
import os
import textwrap
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from trackbench.errors import ConfigError, describe
from trackbench.files import atomic_path

STYLE_FILE = Path(__file__).with_name("style.mplstyle")

# Petroff's ten-colour sequence.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
GREY = "#b8bcc0"  # unassigned hits, background
DAGGER = "\N{DAGGER}"  # marks every quoted number


@dataclass(frozen=True)
class TrackerStyle:
    """Colour (hex), matplotlib marker and line style of one tracker, the same in every figure."""

    color: str
    marker: str
    line: str = "-"


# Two colours are from Petroff's eight-colour sequence; black is the combinatorial Kalman filter's, the one to beat.
TRACKER_STYLES = {
    "dbscan": TrackerStyle("#3f90da", "s"),
    "hdbscan": TrackerStyle("#832db6", "D"),
    "density_peaks": TrackerStyle("#ffa90e", "^"),
    "iterative_window": TrackerStyle("#a96b59", "v"),
    "grid_window": TrackerStyle("#717581", "P"),
    "helix_hash": TrackerStyle("#bd1f01", "o"),
    "helix_finder": TrackerStyle("#e76300", "*"),
    "encreg": TrackerStyle("#92dadd", "<"),
    "enccla": TrackerStyle("#b9ac70", ">"),
    "heptv2": TrackerStyle("#1845fb", "X"),
    "hept_dbscan": TrackerStyle("#c849a9", "p"),
    "ckf": TrackerStyle("#000000", "h"),
    "hit_angles": TrackerStyle("#94a4a2", "d"),
}
# Variants of HEPTv2: no other row of the configurations of whole events has their colour.
VARIANT_STYLES = {
    "heptv2_clean": TrackerStyle("#ffa90e", "H"),
    "heptv2_seeds": TrackerStyle("#92dadd", "^"),
    "heptv2_dbscan": TrackerStyle("#a96b59", "P"),
}
# The same of the Kalman filter, whose rows stand in the main table.
VARIANT_STYLES |= {
    "ckf_seeds": TrackerStyle("#92dadd", ">"),
    "ckf_no_ambiguity": TrackerStyle("#b9ac70", "d"),
}
_QUOTED_AS = {"hept": "hept_dbscan"}  # tracker and the name of its quoted rows: one look
# Rows of sub-events of few tracks only: distinct pairs, not distinct colours. EncReg, the main row, stands out; floor
# and ceilings are black and not solid.
ROW_STYLES = {
    "encreg": TrackerStyle("#bd1f01", "<"),
    "hit_angles": TrackerStyle("#000000", "d", "--"),
    "untrained": TrackerStyle("#94a4a2", "o"),
    "contrastive": TrackerStyle("#832db6", "p"),
    "contrastive_dbscan": TrackerStyle("#c849a9", "D"),
    "contrastive_greedy": TrackerStyle("#1845fb", "^"),
    "contrastive_latents": TrackerStyle("#ffa90e", "v"),
    "encreg_refined": TrackerStyle("#717581", "8"),
    "joint": TrackerStyle("#a96b59", "h"),
    "encreg_q_over_pt": TrackerStyle("#3f90da", "<"),
    "true_targets": TrackerStyle("#000000", "^", ":"),
    "true_targets_q_over_pt": TrackerStyle("#000000", "v", ":"),
    "true_classes_30x30x3": TrackerStyle("#000000", "s", ":"),
    "true_classes_15x15x3": TrackerStyle("#000000", "P", ":"),
    "true_classes_15x5x3": TrackerStyle("#000000", "X", ":"),
}
_FALLBACK_MARKERS = ("8", "H", "o", "s", "^", "D", "v")

AXIS_LABELS = {
    "pt": r"$p_\mathrm{T}$ [GeV]",
    "eta": r"$\eta$",
    "phi": r"$\phi$ [rad]",
    "z0": r"$z_0$ [mm]",
    "x": "x [mm]",
    "y": "y [mm]",
    "z": "z [mm]",
    "r": "r [mm]",
}


@dataclass(frozen=True)
class Header:
    """What the text above a figure says about the data in it; None or "" leaves a part out.

    pileup: mean number of soft collisions per event
    selection: particle selection, in words or formulas
    n_events: number of events shown
    note: anything else the reader must know (device, protocol, caveat)
    sample: name of the data, never an experiment's label
    sigma_z: beam-spot length [mm]
    hits: hits used, in words
    """

    pileup: float | None = None
    selection: str = ""
    n_events: int | None = None
    note: str = ""
    sample: str = ""
    sigma_z: float | None = None
    hits: str = ""

    def details(self) -> str:
        """Pile-up, beam spot and number of events, e.g. ``"mu = 200, sigma_z = 5.5 mm, 20 events"``."""
        parts = []
        if self.pileup is not None:
            parts.append(rf"$\langle\mu\rangle$ = {self.pileup:g}")
        if self.sigma_z is not None:
            parts.append(rf"$\sigma_z$ = {self.sigma_z:.3g} mm")
        if self.n_events is not None:
            parts.append(f"{self.n_events} event" + ("" if self.n_events == 1 else "s"))
        return ", ".join(parts)


def tracker_style(name: str) -> TrackerStyle:
    """Return colour and marker of tracker ``name``: fixed for known trackers, else from its name.

    The fallback depends on the name alone (CRC-32), so a tracker looks the same in every figure and
    in every process. A label in brackets, as in ``heptv2 (demo)``, changes nothing.
    """
    known = name.partition(" (")[0]
    known = _QUOTED_AS.get(known, known)
    fixed = TRACKER_STYLES | VARIANT_STYLES
    if known in fixed:
        return fixed[known]
    code = zlib.crc32(known.encode())
    color = PALETTE[code % len(PALETTE)]
    return TrackerStyle(color, _FALLBACK_MARKERS[code // len(PALETTE) % len(_FALLBACK_MARKERS)])


def row_style(name: str) -> TrackerStyle:
    """Style of a row of the tables: that of its tracker, whatever set its weights are from (``encreg@10-50``)."""
    base = name.partition("@")[0]
    return ROW_STYLES[base] if base in ROW_STYLES else tracker_style(base)


def style_context() -> AbstractContextManager:
    """Context in which matplotlib uses the trackbench style, on top of matplotlib's own defaults."""
    return matplotlib.style.context(["default", str(STYLE_FILE)])


def styled(function: Callable) -> Callable:
    """Decorator: run a plotting function inside ``style_context``."""

    @functools.wraps(function)
    def inside(*args, **kwargs):
        with style_context():
            return function(*args, **kwargs)

    return inside


def new_figure(width: float = 8.0, height: float = 6.0) -> Figure:
    """Return an empty figure with an Agg canvas. width, height: size [in]."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def pretty(text: str) -> str:
    """Typeset a selection written as plain text: ``pT >= 0.9 GeV, |eta| < 4`` gets its symbols."""
    for plain, symbol in (("pT", r"$p_\mathrm{T}$"), ("|eta|", r"$|\eta|$"), (">=", "\u2265"), ("<=", "\u2264")):
        text = text.replace(plain, symbol)
    return text


def draw_header(
    ax: Axes, header: Header | None, extra: str = "", right: Axes | None = None, margin: float = 1.2
) -> None:
    """Write the header above ``ax``: sample (bold) left, conditions and events right, the rest below.

    extra: further text after selection, hits and note; a line feed in it starts a new line
    right: axes at whose right end the header ends, default ``ax``
    margin: width of the figure outside the axes [in]; the text is wrapped to the rest
    """
    header = header or Header()
    capacity = int(12.5 * (ax.figure.get_figwidth() - margin))  # characters of this font per line
    second = pretty("\n".join(_pack((header.selection, header.hits, header.note, extra), capacity)))
    lines = second.count("\n") + 1 if second else 0
    offset = 6 + (4 + 14 * lines if lines else 0)  # points above the axes
    options = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "annotation_clip": False}
    end = {**options, "xycoords": ((right or ax).transAxes, ax.transAxes)}
    texts = [
        ax.annotate(header.sample, (0, 1), (0, offset), fontweight="bold", **options),
        (right or ax).annotate(header.details(), (1, 1), (0, offset), ha="right", fontsize=13, **end),
        ax.annotate(second, (0, 1), (0, 6), fontsize=11, linespacing=1.15, **options),
    ]
    # A long line must not squeeze the axes below it: keep the texts out of the layout, reserve the height.
    for text in texts:
        text.set_in_layout(False)
    layout = ax.figure.get_layout_engine()
    if layout is not None:
        layout.set(rect=(0, 0, 1, 1 - (offset + 18) / 72 / ax.figure.get_figheight()))


def _pack(parts: Iterable[str], capacity: int) -> list[str]:
    """Join parts with semicolons into lines of at most ``capacity`` characters; a line feed ends a line."""
    lines: list[str] = []
    for part in parts:
        for i, paragraph in enumerate(part.split("\n")):
            for j, piece in enumerate(textwrap.wrap(paragraph, capacity, break_long_words=False)):
                if not lines or i or j or len(lines[-1]) + len(piece) + 3 > capacity:
                    lines.append(piece)
                else:
                    lines[-1] += f";  {piece}"
    return lines


def draw_note(ax: Axes, text: str) -> None:
    """Write ``text`` in the middle of an axes, for figures with nothing to show."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35")


def log_pt_axis(ax: Axes) -> None:
    """Make the x axis a logarithmic one of pT, labelled with plain numbers."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def check_columns(where: str, frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise ConfigError if ``frame`` lacks one of ``columns``. where: what the frame is."""
    wanted = list(columns)
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise ConfigError(describe(where, f"no column '{missing[0]}'", "columns " + ", ".join(wanted)))


def save_figure(figure: Figure, stem: str | os.PathLike, table: pd.DataFrame) -> list[Path]:
    """Write ``stem.pdf``, ``stem.png`` and ``stem.csv`` (the numbers behind the figure), atomically.

    The same figure and table give the same bytes: no dates or program names in the metadata.
    Returns the three paths.
    """
    stem = Path(stem)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png", ".csv")]
    no_date = {"Creator": None, "Producer": None, "CreationDate": None}
    with style_context():
        with atomic_path(paths[0]) as temporary:
            figure.savefig(temporary, format="pdf", metadata=no_date)
        with atomic_path(paths[1]) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    with atomic_path(paths[2]) as temporary:
        table.to_csv(temporary, index=False, float_format="%.8g", lineterminator="\n")
    return paths
