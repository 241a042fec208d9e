"""Tune one tracker on validation events."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(index, out, params, threads):
    from trackbench.data.shards import read_events
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.machine import surroundings
    from trackbench.sectored import build_sectored
    from trackbench.tuning import tune, write

    def build(name, settings, seed):
        return build_sectored(name, settings, seed, **params.sectors)

    events = list(read_events(index, "val", limit=params.events))
    selection = TruthSelection(**params.selection)
    result = tune(params.tracker, params.settings, events, selection, params.metric, seed=params.seed, build=build)
    write(out, {**result, **surroundings(threads)})


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.index, snakemake.output.settings, snakemake.params, snakemake.threads)
