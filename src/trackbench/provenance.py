"""What made the results of a run: threads, machine and versions of every manifest, as one table.

Samples, models, tuned settings and tracks each have a JSON file that names them; this reads those files and says what
they have in common and where they differ.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from trackbench.errors import InputError, describe
from trackbench.evaluation.markup import markdown_table
from trackbench.machine import surroundings

COLUMNS = ("result", "kind", "threads", "device", "cpu", "system")
# Part of the path below the folder of the run -> what a manifest there describes.
_KINDS = {
    "events": "simulated events",
    "prepared": "sample",
    "models": "model",
    "tuned": "tuned settings",
    "tracks": "tracks",
}
_THIS_JOB = "this page"


def provenance(manifests: Iterable[str | os.PathLike], run: str | os.PathLike, threads: int) -> pd.DataFrame:
    """Read threads, machine and versions from manifests.

    manifests: JSON files below the folder ``run``; threads: of this job, the last row
    Returns ``COLUMNS`` and a column per package, in the order of the manifests, a row each; a model whose training went
    on with something else has a row for each sitting. "" stands for a package that took no part and for what a manifest
    does not say: samples name no processor.
    Raises InputError for a manifest without threads or versions.
    """
    rows = [row for path in manifests for row in _rows(Path(path), Path(run))]
    rows.append(_flat(_THIS_JOB, _THIS_JOB, surroundings(threads)))
    packages = sorted({name for row in rows for name in row} - {*COLUMNS, "python", "trackbench"})
    table = pd.DataFrame(rows, columns=[*COLUMNS, "python", "trackbench", *packages])
    return table.fillna("").astype({"threads": int})


def _rows(path: Path, run: Path) -> list[dict]:
    name = path.relative_to(run).as_posix()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = f"missing or damaged manifest ({' '.join(str(error).split())[:200]})"
        raise InputError(describe(path, what, "a complete JSON file", "remove it and run again")) from error
    missing = [key for key in ("threads", "versions") if key not in content]
    if missing:
        what = f"says nothing of {' and '.join(missing)}"
        raise InputError(describe(path, what, "threads and versions", "remove it and run again"))
    kind = _KINDS.get(name.partition("/")[0], "other")
    return [_flat(name, kind, {**content, **sitting}) for sitting in content.get("sittings", [{}])]


def _flat(name: str, kind: str, content: dict) -> dict:
    machine = content.get("machine", {})
    device = content.get("device_name") or content.get("device", "cpu")
    row = {"result": name, "kind": kind, "threads": content["threads"], "device": device}
    row |= {"cpu": machine.get("cpu", ""), "system": " ".join(filter(None, map(machine.get, ("system", "arch"))))}
    return row | content["versions"]


def provenance_markdown(table: pd.DataFrame) -> str:
    """Say in Markdown what the results of ``provenance`` have in common, then one line per result.

    A package, processor or number of threads that is not the same everywhere is listed with the results it made, and a
    model made with several is named.
    """
    parts = [
        "**Samples, models, tuned settings and tracks, and what made them**",
        "",
        markdown_table(["", "results", "which"], _summary(table)),
        "",
    ]
    mixed = _mixed(table)
    if mixed:
        names = ", ".join(mixed)
        parts += [f"**Mixed: {names}.** Results of one run were made with different versions; remove the older ones."]
    else:
        parts += ["Every package has one version in all of them."]
    for name, columns in _mixed_models(table).items():
        parts += ["", f"**Mixed within {name}: {', '.join(columns)}.** Its training went on with something else."]
    parts += ["", "Tables and figures are made from these by jobs whose logs end with their own versions and threads."]
    parts += ["", "Equal versions, threads and processors give equal bytes; others may change last digits.", ""]
    lines = [[str(cell) for cell in row] for row in table.drop(columns=["kind"]).itertuples(index=False)]
    return "\n".join([*parts, markdown_table([*table.columns.drop("kind")], lines), ""])


def _packages(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name not in COLUMNS]


def _mixed(table: pd.DataFrame) -> list[str]:
    return [name for name in _packages(table) if len(set(table[name]) - {""}) > 1]


def _mixed_models(table: pd.DataFrame) -> dict[str, list[str]]:
    """Results made in several sittings -> columns in which these differ."""
    several = table[table.duplicated("result", keep=False)]
    groups = several.groupby("result", sort=False)
    return {name: [column for column in group if len(set(group[column]) - {""}) > 1] for name, group in groups}


def _summary(table: pd.DataFrame) -> list[list[str]]:
    """A row per value of each column: value, number of results, their kinds."""
    rows = []
    for column in ("threads", "device", "cpu", "system", *_packages(table)):
        known = table[table[column].astype(str) != ""]
        for value, group in known.groupby(column, sort=True):
            rows.append([f"{column} {value}", str(group["result"].nunique()), ", ".join(dict.fromkeys(group["kind"]))])
    return rows
