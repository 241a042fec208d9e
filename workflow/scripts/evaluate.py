"""Evaluate the tracks of one tracker against the truth."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, selection):
    from trackbench.data.shards import read_events
    from trackbench.evaluation.run import EvaluationFiles, evaluate_tracks
    from trackbench.evaluation.selection import TruthSelection

    events = read_events(inputs.index, "test")
    files = EvaluationFiles(**{name: out[name] for name in EvaluationFiles._fields})
    evaluate_tracks(inputs.tracks, events, TruthSelection(**selection), files, inputs.parameters)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params.selection)
