"""The surface table: each clusterer as attention mask on each projection surface, beside the talk's numbers."""

import logging
import os
from collections.abc import Iterable

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.sample import Sample
from trackbench.evaluation.surfaces import pool_scores, score_region, selection_text
from trackbench.geometry.projection import REGIONS
from trackbench.trackers.base import build_tracker
from trackbench.trackers.layers.mask_settings import MASK_SETTINGS
from trackbench.trackers.layers.surfaces import SurfaceTracker

log = logging.getLogger(__name__)

PERCOLATION = 0.02  # attention of disjoint clusters above this: most hits are in one cluster

COLUMNS = (
    "region",
    "method",
    "source",
    "recon_ratio",
    "recon_ratio_err",
    "fully_contained",
    "majority_contained",
    "dm",
    "dm_lo",
    "dm_hi",
    "clusters",
    "tracks",
    "attention",
    "attention_err",
    "attention_pairs",
    "block_density",
    "coverage",
    "n_hits",
    "n_events",
    "pileup",
    "sigma_z",
    "selection",
)
TALK_COLUMNS = ("region", "method", "recon_ratio", "dm", "clusters", "tracks", "attention")


def surface_table(
    events: Iterable[tuple[Hits, Truth]],
    settings: dict[str, dict] | None = None,
    talk_path: str | os.PathLike | None = None,
    seed: int = 0,
    sample: Sample | None = None,
    interval: str = "clopper-pearson",
) -> pd.DataFrame:
    """Cluster events on their projection surfaces and score the clusters.

    events: hits and truth, row by row; only the pixel volumes are used
    settings: tracker name -> settings that replace those of ``MASK_SETTINGS`` one by one; default: its four
    talk_path: csv with ``TALK_COLUMNS``; its rows are appended
    sample: what the events are, for the columns ``pileup sigma_z selection`` of measured rows
    interval: name of the binomial interval of ``dm``
    Returns one row per region and method with ``COLUMNS``; region is barrel, endcap- or endcap+ (the talk's:
    endcap), source is "measured" or "talk". Caption: ``trackbench.evaluation.surfaces.caption``.
    Raises ConfigError if a tracker does not work on projection surfaces, InputError without events.
    """
    trackers = _build(MASK_SETTINGS if settings is None else settings, seed)
    scores = {(region.name, name): [] for region in REGIONS for name in trackers}
    n_events = 0
    for hits, truth in events:
        n_events += 1
        for name, tracker in trackers.items():
            for region, score in _score_event(tracker, hits, truth).items():
                scores[region, name].append(score)
    if not n_events:
        raise InputError(describe("surface table", "no events", "at least one"))
    facts = {} if sample is None else {"pileup": sample.pileup, "sigma_z": sample.sigma_z}
    facts |= {"source": "measured", "selection": "" if sample is None else selection_text(sample)}
    rows = [_measured_row(region, name, found, interval) | facts for (region, name), found in scores.items()]
    if talk_path is not None:
        talk = {"source": "talk", "selection": "not stated"}
        rows += [row | talk for row in read_talk(talk_path).to_dict("records")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measured_row(region: str, name: str, scores: list, interval: str) -> dict:
    row = {"region": region, "method": name, **pool_scores(scores, interval)}
    if row["attention"] > PERCOLATION:
        text = "%s, %s: attention %.3f > %g: clusters percolate, use a smaller eps or window"
        log.warning(text, region, name, row["attention"], PERCOLATION)
    return row


def _build(settings: dict[str, dict], seed: int) -> dict[str, SurfaceTracker]:
    trackers = {}
    for name, changes in settings.items():
        tracker = build_tracker(name, {**MASK_SETTINGS.get(name, {}), **changes}, seed)
        if not isinstance(tracker, SurfaceTracker):
            what = "does not cluster on projection surfaces"
            raise ConfigError(describe(f"surfaces.{name}", what, "one of " + ", ".join(MASK_SETTINGS)))
        trackers[name] = tracker
    return trackers


def _score_event(tracker: SurfaceTracker, hits: Hits, truth: Truth) -> dict:
    clusters = tracker.clusters(hits)
    nothing = (np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64))
    scores = {}
    for region in REGIONS:
        rows = np.flatnonzero(hits.valid & (hits.volume_id == region.volume))
        scores[region.name] = score_region(*clusters.get(region.name, nothing), rows, truth)
    return scores


def read_talk(path: str | os.PathLike) -> pd.DataFrame:
    """Read the talk's table. Returns ``TALK_COLUMNS``; raises InputError if one is missing."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(describe(path, f"cannot be read ({error})", "a csv file")) from error
    missing = [name for name in TALK_COLUMNS if name not in table]
    if missing:
        raise InputError(describe(path, f"no column {missing[0]}", "columns " + ", ".join(TALK_COLUMNS)))
    return table[list(TALK_COLUMNS)]


def surface_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, a measured row followed by the talk's row of the same method and kind of region.

    table: from ``surface_table``
    """
    header = (
        "| region | method | recon. ratio | fully | majority | DM | clusters | tracks | attention | pairs | blocks "
        "| coverage |"
    )
    lines = [header, "|---|---|" + "---:|" * 10]
    talk = table[table["source"] == "talk"].set_index(["region", "method"])
    for row in table[table["source"] == "measured"].to_dict("records"):
        lines.append(_line(row["region"], row["method"], row))
        key = (row["region"].rstrip("+-"), row["method"])
        if key in talk.index:
            lines.append(_line("", "talk (quoted)", talk.loc[key].to_dict()))
    return "\n".join(lines) + "\n"


def _line(region: str, method: str, row: dict) -> str:
    formats = {
        "recon_ratio": ".3f",
        "fully_contained": ".3f",
        "majority_contained": ".3f",
        "dm": ".3f",
        "clusters": ".0f",
        "tracks": ".0f",
        "attention": ".6f",
        "attention_pairs": ".6f",
        "block_density": ".4f",
        "coverage": ".3f",
    }
    cells = ["-" if pd.isna(row[name]) else format(row[name], spec) for name, spec in formats.items()]
    return "| " + " | ".join([region, method, *cells]) + " |"
