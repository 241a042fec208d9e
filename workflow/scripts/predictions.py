"""Write the outputs of a regression network for every hit of the test events, beside the true targets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.predictions import write_predictions

    write_predictions(inputs.weights, inputs.index, out.predictions, limit=params.events)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
