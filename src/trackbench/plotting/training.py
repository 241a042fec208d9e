"""Loss curves of trained networks: training and validation, every term, one panel per model and set."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trackbench.errors import ConfigError, describe
from trackbench.plotting.style import PALETTE, Header, check_columns, draw_header, draw_note, new_figure, styled

COLUMNS = ("model", "set", "task", "label", "step", "epoch", "learning_rate", "term", "train", "val", "best")
FACTS = ("model", "set", "task", "label", "best_step", "validation_loss", "training_events", "parameters")
TOTAL = "total"
_PER_ROW = 3
_LATE = "decoder trained from later on:\ntraining totals do not compare"
_COLORS = {TOTAL: "black", "regression": PALETTE[0], "classification": PALETTE[1], "contrastive": PALETTE[2]}


def loss_table(history: pd.DataFrame, facts: Mapping) -> pd.DataFrame:
    """Loss curves of one training in long form.

    history: columns step, epoch, learning_rate, train_TERM and val_TERM of every term and of "total"
    facts: of the same training, with ``FACTS``
    Returns ``COLUMNS``: one row per validation and term, the total last; ``best`` marks the validation whose weights
    are kept. A total of one term only is left out. A training term of exactly 0 is absent (NaN): it is switched on
    later, so that no training total compares with another or with validation, and all training totals are NaN.
    Raises ConfigError for a missing column or fact.
    """
    check_columns("training history", history, ("step", "epoch", "learning_rate", f"train_{TOTAL}", f"val_{TOTAL}"))
    missing = [name for name in FACTS if name not in facts]
    if missing:
        raise ConfigError(describe("facts of a training", f"no '{missing[0]}'", ", ".join(FACTS)))
    terms = [name.removeprefix("val_") for name in history if name.startswith("val_") and name != f"val_{TOTAL}"]
    terms = terms if len(terms) == 1 else [*terms, TOTAL]
    check_columns("training history", history, [f"train_{term}" for term in terms])
    train = history[[f"train_{term}" for term in terms]].astype(float).set_axis(terms, axis=1)
    val = history[[f"val_{term}" for term in terms]].set_axis(terms, axis=1)
    train = train.where(train != 0)
    if TOTAL in terms and (train.isna() & (val != 0)).any(axis=None):
        train[TOTAL] = np.nan
    parts = []
    for term in terms:
        part = history[["step", "epoch", "learning_rate"]].assign(
            **{name: facts[name] for name in ("model", "set", "task", "label")},
            term=term,
            train=train[term],
            val=val[term],
            best=history["step"] == facts["best_step"],
        )
        parts.append(part[list(COLUMNS)])
    return pd.concat(parts, ignore_index=True)


@styled
def training_figure(
    histories: Sequence[pd.DataFrame], facts: Sequence[Mapping], header: Header | None = None
) -> tuple[Figure, pd.DataFrame]:
    """Loss against step, one panel per training.

    histories, facts: see ``loss_table``, in the same order
    Dashed: mean over the training steps since the point before, dropout and varied events included. Solid: validation
    split. The star is the validation whose weights are kept.
    Returns the figure and the ``loss_table`` of all trainings. Raises ConfigError for a missing column or fact.
    """
    tables = [loss_table(history, fact) for history, fact in zip(histories, facts, strict=True)]
    columns = min(max(len(tables), 1), _PER_ROW)
    rows = -(-max(len(tables), 1) // columns)
    figure = new_figure((8.0, 12.0, 16.0)[columns - 1], 1.6 + 4.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax, table, fact in zip(axes.flat, tables, facts, strict=False):
        _draw_panel(ax, table, fact)
    for ax in list(axes.flat)[max(len(tables), 1) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("Loss")
    if not tables:
        draw_note(axes[0, 0], "no training to show")
    note = "dashed: training, mean since the point before; solid: validation; star: weights that are kept"
    draw_header(axes[0, 0], header, note, right=axes[0, -1])
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    return figure, table


def _draw_panel(ax: Axes, table: pd.DataFrame, facts: Mapping) -> None:
    handles = []
    for number, (term, mine) in enumerate(table.groupby("term", sort=False)):
        color = _COLORS.get(term, PALETTE[(3 + number) % len(PALETTE)])
        ax.plot(mine["step"], mine["train"], color=color, linestyle="--", linewidth=1.0)
        ax.plot(mine["step"], mine["val"], color=color, marker="." if len(mine) < 60 else "", linewidth=1.6)
        handles.append(Line2D([], [], color=color, label=term))
    kept = table[table["best"]].tail(1)  # the total, or the only term
    ax.plot(kept["step"], kept["val"], color="black", marker="*", markersize=15, linestyle="", zorder=5)
    late = table.loc[table["term"] == TOTAL, "train"].isna().any()
    columns = 2 if len(handles) > 3 else 1
    title = _summary(facts) + (f"\n{_LATE}" if late else "")
    _set_range(ax, table[["train", "val"]].to_numpy(np.float64), 1 + title.count("\n") - (-len(handles) // columns))
    ax.set_xlabel("Step")
    options = {"loc": "upper right", "fontsize": 11, "title_fontsize": 11, "alignment": "left", "ncols": columns}
    ax.legend(handles=handles, title=title, **options)


def _set_range(ax: Axes, values: np.ndarray, lines: int) -> None:
    """Logarithmic axis if the losses fall by much; the upper part is left to ``lines`` lines of legend."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return
    low, high, share = values.min(), values.max(), 0.058 * lines + 0.04
    if low > 0 and high > 3 * low:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        span = np.log(high / low)
        ax.set_ylim(low * np.exp(-0.05 * span), low * np.exp(span / (1 - share)))
    else:
        span = max(high - low, 1e-3 * abs(high))
        ax.set_ylim(low - 0.05 * span, low + span / (1 - share))


def _summary(facts: Mapping) -> str:
    label = f"{facts['label']}: " if facts["label"] else ""
    name = f"{label}{facts['model']}" + (f" on {facts['set']}" if facts["set"] else "")
    trained = f"{facts['parameters']:,} weights, {facts['training_events']:,} events"
    return f"{name}\n{trained}\nbest {facts['validation_loss']:.3g} at step {facts['best_step']}"
