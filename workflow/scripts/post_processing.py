"""Measure what each step after the network of HEPTv2 gains and costs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    import json

    from trackbench.data.shards import read_events
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.files import write_text
    from trackbench.machine import machine_facts
    from trackbench.post_processing import post_processing_markdown, post_processing_study
    from trackbench.trackers.base import build_tracker

    tuned = inputs.get("tuned")
    settings = json.loads(Path(tuned).read_text(encoding="utf-8"))["settings"] if tuned else dict(params.settings)
    settings["checkpoint"] = str(inputs.weights)
    tracker = build_tracker(params.tracker, settings, params.seed)
    selection = TruthSelection(**params.selection)
    events = read_events(inputs.index, "test")
    table = post_processing_study(tracker, events, selection, kmeans=params.kmeans, seed=params.seed)
    write_text(out.csv, table.to_csv(index=False))
    sample = Sample.load(inputs.manifest)
    note = f"Tracker: {params.row}. {sample.label()}; particles: {selection.label()}. "
    note += f"{params.kmeans} turns of k-means. CPU: {machine_facts()['cpu']}, one thread; network on {tracker.device}"
    text = post_processing_markdown(table, note)
    write_text(out.markdown, text)
    write_text(out.page, markdown_page("Steps after the network", text))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
