"""What it costs to reconstruct an event in phi sectors: efficiency and time against the number of sectors and overlap.

Beside it on the same events: the floor, clusters of hit angles without learning, and the ceiling, clusters of true
targets. The sectors are those of ``sectored.SectoredTracker``, stitched where they overlap. Source of the idea:
TrackFormers-Models, which cuts in azimuth and polar angle; differs from it in: azimuth only, overlaps, and clusters
are joined.
"""

import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trackbench.ceilings import ceiling_labels
from trackbench.data.hits import Hits
from trackbench.data.sectors import phi_sectors
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.intervals import PERCENTILES, REPLICAS, event_bootstrap, paired_bootstrap
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.trackformers import demo_note
from trackbench.sectored import SectoredTracker
from trackbench.trackers import hit_angles
from trackbench.trackers.base import TrackerBase

log = logging.getLogger(__name__)

STUDIED = "tracker"  # kind of the tracker under study
FLOOR, CEILING = "hit_angles", "true_targets"  # of the whole event, in every study
PT_MIN = 0.9  # GeV, of the particles in "contained_pt"
COLUMNS = (
    "tracker",
    "kind",  # STUDIED, "floor" or "ceiling"
    "sectors",  # 1 = the whole event
    "overlap",  # [rad], by which each sector is enlarged on both sides
    "metric",  # of METRICS
    "value",
    "lo",  # 16 and 84 % of the bootstrap over events
    "hi",
    "change",  # value minus that of the whole event, and its paired bootstrap; NaN for times
    "change_lo",
    "change_hi",
    "n_events",
)
# Ratios are averaged over events, each event counts the same; of times the median is taken.
METRICS = {
    "score": "TrackML score",
    "dm": "particles found by double majority",
    "perfect": "particles found with exactly their hits",
    "contained": "particles with all their hits in one sector",
    "contained_pt": f"the same of particles with pT > {PT_MIN:g} GeV",
    "cost": "sum of squared numbers of hits of the sectors / N^2: pairs of hits, and so full attention",
    "wall_ms": "wall clock of one event [ms]",
    "cpu_ms": "CPU time of one event [ms]",
}
TIMES = ("wall_ms", "cpu_ms")
COMPARED = ("score", "dm", "perfect")  # of floor and ceiling too; their change is shown in the table for people

_CAPTION = (
    "Floor (hit angles, no learning) and ceiling (true targets, made with truth): HDBSCAN of the same whole events,"
    " not timed. Means over events, of times medians; errors are 16 to 84 % of the bootstrap over events. In brackets:"
    " the difference to the tracker on the whole event with the error of the difference, which is smaller, as the"
    " events are the same. Overlap: by which each sector is enlarged on both sides; a hit takes its label from the"
    " sector with the nearest centre, and clusters of two sectors that share more than half of the smaller one's hits"
    " are one. Contained: particles with all their hits in one sector. Pairs: sum of the squared numbers of hits of the"
    " sectors over that of the event, what full attention costs."
)


@dataclass(frozen=True)
class DecompositionPlan:
    """What is tried.

    sectors: numbers of sectors, >= 1; the whole event is always among them, as the reference
    overlaps: by which each sector is enlarged on both sides [rad], >= 0 and less than the width of any sector
    selection: particles asked for in dm and perfect
    seed: of the bootstrap
    """

    sectors: tuple[int, ...] = (1, 2, 4, 8, 16)
    overlaps: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    selection: TruthSelection = field(default_factory=TruthSelection)
    seed: int = 0

    def __post_init__(self):
        if not self.sectors or min(self.sectors) < 1:
            raise ConfigError(describe("decomposition.sectors", f"value {self.sectors}", "numbers >= 1"))
        width = 2 * np.pi / max(self.sectors)
        if not self.overlaps or min(self.overlaps) < 0 or (max(self.sectors) > 1 and max(self.overlaps) >= width):
            what, expected = f"value {self.overlaps}", f"numbers >= 0 rad, below the sector width {width:.3g} rad"
            raise ConfigError(describe("decomposition.overlaps", what, expected, "use fewer sectors"))

    @property
    def settings(self) -> list[tuple[int, float]]:
        """(number of sectors, overlap [rad]) of all that is tried, the whole event first."""
        numbers = sorted(set(self.sectors) - {1})
        return [(1, 0.0), *itertools.product(numbers, sorted(set(self.overlaps)))]


def decomposition_study(
    name: str, tracker: TrackerBase, events: Iterable[tuple[Hits, Truth]], plan: DecompositionPlan | None = None
) -> pd.DataFrame:
    """Reconstruct each event as a whole and in sectors.

    name: of the tracker in the table; events: hits and truth, row by row; only hits reach the tracker
    Returns ``COLUMNS``, a row per number of sectors, overlap and metric of ``METRICS``; NaN where no event has a
    denominator. Floor and ceiling come last, with the metrics of ``COMPARED`` of the whole event only. Times are those
    of calls on one event after the other, the first event seen once before. They include cutting and stitching.
    Raises InputError without events.
    """
    plan = plan or DecompositionPlan()
    settings = [(name, STUDIED, *setting) for setting in plan.settings]
    settings += [(FLOOR, "floor", 1, 0.0), (CEILING, "ceiling", 1, 0.0)]
    found: dict[tuple, list[dict]] = {setting: [] for setting in settings}
    floor = hit_angles.Tracker(hit_angles.Config())
    for number, (hits, truth) in enumerate(events):
        for setting in settings[:-2]:
            cut = _cut(tracker, *setting[2:])
            if number == 0:
                cut.reconstruct(hits)
            found[setting].append(_measure(cut, hits, truth, plan.selection))
        found[settings[-2]].append(_compared(floor.reconstruct(hits), truth, plan.selection))
        found[settings[-1]].append(_compared(ceiling_labels(CEILING, truth, {}), truth, plan.selection))
        log.info("event %d: %d hits, %d settings", hits.event_id, len(hits), len(settings))
    whole = pd.DataFrame(found[settings[0]])
    if whole.empty:
        raise InputError(describe("decomposition study", "no events", "at least one"))
    rows = []
    for setting, measured in found.items():
        head = dict(zip(COLUMNS, setting, strict=False))
        rows += [{**head, **row} for row in _summary(pd.DataFrame(measured), whole, plan.seed)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cut(tracker: TrackerBase, n_sectors: int, overlap: float) -> TrackerBase | SectoredTracker:
    """Let a tracker see sectors enlarged by ``overlap`` [rad] on both sides."""
    if n_sectors == 1:
        return tracker
    return SectoredTracker(tracker, n_sectors, _fraction(n_sectors, overlap))


def _fraction(n_sectors: int, overlap: float) -> float:
    """Overlap as a fraction of the sector's width."""
    return overlap * n_sectors / (2 * np.pi)


def _measure(tracker: TrackerBase | SectoredTracker, hits: Hits, truth: Truth, selection: TruthSelection) -> dict:
    """Values of ``METRICS`` of one event, NaN without denominator."""
    wall, cpu = time.perf_counter(), time.process_time()
    labels = tracker.reconstruct(hits)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    values = _compared(labels, truth, selection)
    n_sectors, overlap = getattr(tracker, "n_sectors", 1), getattr(tracker, "overlap", 0.0)
    values |= containment(hits, truth, n_sectors, overlap)
    return {**values, "wall_ms": 1e3 * wall, "cpu_ms": 1e3 * cpu}


def _compared(labels: np.ndarray, truth: Truth, selection: TruthSelection) -> dict[str, float]:
    """Values of ``COMPARED`` of one event, NaN without denominator. labels: (n,) as of a tracker."""
    result = evaluate_event(labels, truth, selection)
    return {"score": result.value("trackml_score"), "dm": result.value("dm"), "perfect": result.value("perfect")}


def containment(hits: Hits, truth: Truth, n_sectors: int, overlap: float) -> dict[str, float]:
    """What a cut into sectors keeps together, whatever the tracker.

    overlap: fraction of the sector's width
    Returns contained, contained_pt and cost of ``METRICS``; particles without hits do not count, noise costs as any
    hit does.
    """
    sectors = phi_sectors(hits, n_sectors, "angle", overlap)
    ids = truth.particles["particle_id"].to_numpy()
    row = np.searchsorted(ids, truth.particle_id)
    row[truth.particle_id == 0] = len(ids)  # noise
    total = np.bincount(row[hits.valid], minlength=len(ids) + 1)
    most = np.zeros_like(total)
    for sector in sectors:
        most = np.maximum(most, np.bincount(row[sector.index], minlength=len(total)))
    whole, seen = (most == total)[:-1], total[:-1] > 0
    fast = seen & (truth.particles["pt"].to_numpy() > PT_MIN)
    n_hits = int(hits.valid.sum())
    return {
        "contained": whole[seen].mean() if seen.any() else np.nan,
        "contained_pt": whole[fast].mean() if fast.any() else np.nan,
        "cost": sum(len(sector.index) ** 2 for sector in sectors) / n_hits**2 if n_hits else np.nan,
    }


def _summary(measured: pd.DataFrame, whole: pd.DataFrame, seed: int) -> Iterator[dict]:
    """Rows of one setting. measured, whole: a row per event, of ``METRICS``, of the setting and the reference."""
    for metric in measured:
        values, reference = measured[metric].to_numpy(np.float64), whole[metric].to_numpy(np.float64)
        row = {"metric": metric, "n_events": int(np.isfinite(values).sum())}
        if metric in TIMES:
            yield {**row, **_median(values, seed)}
            continue
        sums, others = _as_ratio(values), _as_ratio(reference)
        row |= {"value": np.nanmean(values) if row["n_events"] else np.nan}
        row |= dict(zip(("lo", "hi"), event_bootstrap(*sums, seed=seed), strict=True))
        change = paired_bootstrap(*sums, *others, seed=seed)
        yield {**row, **dict(zip(("change", "change_lo", "change_hi"), change, strict=True))}


def _as_ratio(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators whose pooled ratio is the mean of the finite values."""
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def _median(values: np.ndarray, seed: int) -> dict[str, float]:
    """Median over events and its bootstrap."""
    draws = np.random.default_rng(seed).integers(len(values), size=(REPLICAS, len(values)))
    lo, hi = np.percentile(np.median(values[draws], axis=1), PERCENTILES)
    return {"value": np.median(values), "lo": lo, "hi": hi}


def decomposition_markdown(table: pd.DataFrame, note: str) -> str:
    """Write the study for people, a row per number of sectors and overlap, then floor and ceiling.

    table: from ``decomposition_study``; note: what the events and the particles are
    """
    titles = {
        "score": "TrackML score",
        "dm": "DM",
        "perfect": "perfect",
        "contained": "contained",
        "contained_pt": f"contained, pT > {PT_MIN:g} GeV",
        "cost": "pairs",
        "cpu_ms": "CPU [ms]",
        "wall_ms": "wall [ms]",
    }
    lines = [["sectors", "overlap [rad]", *titles.values()], ["---:"] * (2 + len(titles))]
    for (kind, name, sectors, overlap), mine in table.groupby(["kind", "tracker", "sectors", "overlap"], sort=False):
        cells = mine.set_index("metric").reindex(list(titles))
        place = f"{overlap:g}" if sectors > 1 else "whole event"
        head = [str(sectors), place if kind == STUDIED else f"{kind}: {name}"]
        lines.append([*head, *(_cell(cells.loc[metric], metric) for metric in titles)])
    text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    names = list(dict.fromkeys(table.loc[table["kind"] == STUDIED, "tracker"]))
    caption = [f"Tracker: {', '.join(names)}. {note}.", *demo_note(names), _CAPTION]
    return f"{text}\n\n{' '.join(caption)}\n"


def _cell(entry: pd.Series, metric: str) -> str:
    """Value and, but for the reference itself, its change; a dash for what was not measured."""
    if np.isnan(entry["value"]):
        return "\N{EN DASH}"
    digits = ".1f" if metric in TIMES else ".3f"
    text = _with_error(entry["value"], entry["lo"], entry["hi"], digits)
    if metric not in COMPARED or (entry["kind"] == STUDIED and entry["sectors"] == 1):
        return text
    return f"{text} ({_with_error(entry['change'], entry['change_lo'], entry['change_hi'], '+' + digits)})"


def _with_error(value: float, lo: float, hi: float, digits: str) -> str:
    text = f"{value:{digits}} +{max(hi - value, 0):{digits.lstrip('+')}} -{max(value - lo, 0):{digits.lstrip('+')}}"
    return text.replace("-", "\N{MINUS SIGN}")
