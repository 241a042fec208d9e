"""Reconstruct events in phi sectors and as a whole: table and figure of efficiency and time."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

THREADS = 1  # of the tracker, whatever the job reserves to be undisturbed


def main(inputs, out, params):
    import json
    from dataclasses import replace

    from trackbench.data.shards import read_events
    from trackbench.decomposition import DecompositionPlan, decomposition_markdown, decomposition_study
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.files import write_text
    from trackbench.plotting.decomposition import decomposition_figure
    from trackbench.plotting.sample import sample_header, save_as
    from trackbench.trackers.base import build_tracker

    tuned, weights = inputs.get("tuned"), inputs.get("weights")
    settings = json.loads(Path(tuned).read_text(encoding="utf-8"))["settings"] if tuned else dict(params.settings)
    if weights:
        settings["checkpoint"] = str(weights)
    selection = TruthSelection(**params.selection)
    plan = DecompositionPlan(tuple(params.counts), tuple(params.overlaps), selection, params.seed)
    tracker = build_tracker(params.tracker, settings, params.seed)
    name = params.get("row") or params.tracker
    table = decomposition_study(name, tracker, read_events(inputs.index, "test", limit=params.limit), plan)
    write_text(out.csv, table.to_csv(index=False))
    n_events = int(table["n_events"].max())
    sample = replace(Sample.load(inputs.manifest), n_test=n_events)
    text = decomposition_markdown(table, f"{sample.label()}; particles: {selection.label()}")
    write_text(out.markdown, text)
    write_text(out.page, markdown_page("Reconstruction in phi sectors", text))
    header = sample_header(inputs.manifest, params.selection, n_events=n_events)
    save_as(out.png, *decomposition_figure(table, header))


with job(snakemake.log[0], THREADS):
    main(snakemake.input, snakemake.output, snakemake.params)
