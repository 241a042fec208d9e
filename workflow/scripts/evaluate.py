"""Evaluate the tracks of one tracker against the truth."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(index, tracks, out, selection):
    from trackbench.data.shards import read_events
    from trackbench.evaluation.run import evaluate_tracks
    from trackbench.evaluation.selection import TruthSelection

    events = read_events(index, "test")
    evaluate_tracks(tracks, events, TruthSelection(**selection), out.counts, out.particles, out.candidates)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.index, snakemake.input.tracks, snakemake.output, snakemake.params.selection)
