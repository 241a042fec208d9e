"""Tables of the samples of whole events of a study: all metrics, a summary, the effect of noise removed by truth."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from trackbench.campaign.rows import is_done, metrics_files
from trackbench.campaign.study import Study
from trackbench.collisions import reference_of, row_names
from trackbench.derived_sets import origin_of
from trackbench.evaluation.published import read_published
from trackbench.evaluation.sample import Sample
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.summary import summary_markdown
from trackbench.evaluation.tables import Measured, TableOptions, metrics_table
from trackbench.evaluation.truth_filter import truth_filter_markdown

NOT_HERE = ("latency_ms", "cpu_ms", "first_call_s", "peak_memory_mb")  # rows are made while the device trains
QUOTED = ("heptv2", "hept_dbscan")  # trackers whose published rows stand beside ours
TARGET = (
    "Target: DM 98.6 %, fakes 0.8 %, as HEPTv2 publishes them (quoted; its data have lost noise and out-of-acceptance"
    " hits by truth), here on held-out simulated events with noise kept."
)


def collision_tables(study: Study, published: Path) -> dict[str, pd.DataFrame]:
    """Long table of ``evaluation.tables`` of each sample, of the rows that are evaluated.

    published: quoted numbers, of which those of ``QUOTED`` are used, costs left out; so are our own times
    Samples without any row yet are left out.
    """
    found = {name: _measured(study, name) for name in study.collisions}
    quoted = read_published(published)
    quoted = quoted[quoted["tracker"].isin(QUOTED) & ~quoted["metric"].str.partition("/")[0].isin(NOT_HERE)]
    return {name: _table(study, name, measured, quoted) for name, measured in found.items() if measured}


def _measured(study: Study, set_name: str) -> dict[str, Measured]:
    shown = row_names(study.config, set_name)
    found = {}
    for row, name in shown.items():
        if is_done(study, set_name, row):
            files = metrics_files(study, set_name, row)
            found[name] = Measured.load(files.counts, files.particles, files.candidates)
    return found


def _table(study: Study, set_name: str, measured: Mapping[str, Measured], quoted: pd.DataFrame) -> pd.DataFrame:
    sample, evaluation = Sample.load(study.sample(set_name) / "manifest.json"), study.config["evaluation"]
    reference = reference_of(study.config, set_name)
    options = TableOptions(
        selection=TruthSelection(**study.config["selection"]).label(),
        reference=reference if reference in measured else None,
        interval=evaluation["interval"],
        replicas=evaluation["replicas"],
        seed=study.seed,
        truth_filter=sample.truth_filter,
        source=sample.origin(),
        hits=sample.selection_label,
    )
    return metrics_table(dict(measured), options, quoted)


def collision_text(study: Study, tables: Mapping[str, pd.DataFrame]) -> str:
    """Summary of each sample for people, as Markdown. tables: of ``collision_tables``."""
    parts = []
    for name in study.collisions:
        parts.append(f"## Whole events: {name}")
        if name not in tables:
            parts.append("No row is evaluated yet: no table.")
            continue
        sample = Sample.load(study.sample(name) / "manifest.json")
        how = {"note": sample.conditions(), "interval": study.config["evaluation"]["interval"].title()}
        parts.append(summary_markdown(tables[name], **how, side_by_side=True, conventions=True).rstrip())
        origin = origin_of(study.config, name)
        if origin != name and _shared(tables.get(origin), tables[name]):
            parts.append(truth_filter_markdown(tables[origin], tables[name], (origin, name)).rstrip())
    return "\n\n".join([*parts, TARGET])


def _shared(kept: pd.DataFrame | None, removed: pd.DataFrame) -> bool:
    """Whether a measured row is in both tables."""
    if kept is None:
        return False
    names = [set(table.loc[table["n_events"].notna(), "tracker"]) for table in (kept, removed)]
    return bool(names[0] & names[1])


def collision_samples(study: Study) -> dict[str, dict]:
    """Manifests of the samples that are complete."""
    there = [name for name in study.collisions if study.is_there(name)]
    return {name: json.loads((study.sample(name) / "manifest.json").read_text(encoding="utf-8")) for name in there}
