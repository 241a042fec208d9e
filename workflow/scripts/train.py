"""Train one model on one data set."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, wildcards, params, threads):
    from trackbench.training.run import TrainingFiles, TrainingJob, train_model

    what = TrainingJob(
        kind=params.task,
        blocks=params.blocks,
        seed=params.seed,
        threads=threads,
        model=wildcards.model,
        set_name=wildcards.set,
        code=params.code,
    )
    train_model(inputs.index, inputs.manifest, what, TrainingFiles(out.weights, out.history, out.facts, params.folder))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.wildcards, snakemake.params, snakemake.threads)
