"""What figures of a workflow run share: the header from the manifest, timing tables, saving."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from trackbench.evaluation.sample import Sample, unusual_detector
from trackbench.evaluation.selection import TruthSelection
from trackbench.plotting.style import Header, save_figure


def sample_header(
    manifest: str | os.PathLike, selection: Mapping, n_events: int | None = None, scan: bool = False, note: str = ""
) -> Header:
    """Header that names the data of a run.

    manifest: manifest of the prepared main sample
    selection: values of ``TruthSelection``; empty = no particle selection is involved
    n_events: events shown, default all test events
    scan: the figure also shows the simulated pile-up scan, so no pile-up and number of events is named
    note: anything else the reader must know, such as phi sectors
    """
    sample = Sample.load(manifest)
    name = sample.name() + (" and simulated pile-up scan" if scan and not sample.simulated else "")
    unusual = unusual_detector(sample.field, sample.misalignment)
    return Header(
        pileup=None if scan else sample.pileup,
        selection=TruthSelection(**selection).label() if selection else "",
        n_events=None if scan else n_events or sample.n_test,
        note=", ".join([*unusual, *([note] if note else [])]),
        sample=name,
        sigma_z=sample.sigma_z if sample.simulated or not scan else None,
        hits=sample.selection_label,
    )


def common_header(headers: Sequence[Header]) -> Header:
    """Header of a figure about several samples: what is not the same in all of ``headers`` is left out."""
    first = headers[0]
    differing = [f for f in fields(Header) if any(getattr(one, f.name) != getattr(first, f.name) for one in headers)]
    return replace(first, **{f.name: f.default for f in differing})


def read_timing(paths: Iterable[str], trackers: Sequence[str], samples: Sequence[str]) -> pd.DataFrame:
    """Join timing files, one per sample and tracker in this order, adding ``tracker`` and ``sample``.

    The events of ``scan`` become one sample per pile-up, those of ``tiled`` one per size.
    """
    names = [(sample, tracker) for sample in samples for tracker in trackers]
    frames = []
    for (sample, tracker), path in zip(names, paths, strict=True):
        frame = pd.read_csv(path)
        part = {"scan": frame["event_id"] // 100000, "tiled": frame["n_hits"]}.get(sample)
        labels = sample if part is None else sample + "-" + part.astype(str)
        frames.append(frame.assign(tracker=tracker, sample=labels))
    return pd.concat(frames, ignore_index=True)


def known_pileups(manifest: str | os.PathLike, scan: Sequence[float]) -> dict[str, float]:
    """Mean pile-up of the samples that ``read_timing`` names, where it is known.

    manifest: manifest of the prepared main sample; real events do not say theirs
    scan: pile-ups of the scan in the order of its shards
    """
    pileup = Sample.load(manifest).pileup
    known = {} if pileup is None else {"main": float(pileup)}
    return known | {f"scan-{k}": float(value) for k, value in enumerate(scan, start=1)}


def run_statement(run: str | os.PathLike) -> str:
    """Say how times were taken, from a tracker's run file."""
    facts = json.loads(Path(run).read_text(encoding="utf-8"))
    threads = f"{facts['threads']} thread" + ("s" if facts["threads"] != 1 else "")
    timed = f"{facts['machine']['cpu']}, {threads}, {facts['precision']}, first call excluded"
    return f"{timed}; alone on the machine under the default profile"


def save_as(png: str | os.PathLike, figure: Figure, table: pd.DataFrame) -> None:
    """Save a figure as PDF, PNG and CSV beside the given PNG path."""
    save_figure(figure, Path(png).with_suffix(""), table)
