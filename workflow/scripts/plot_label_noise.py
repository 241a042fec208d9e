"""Plot the score of true targets with noise on them, beside the published points."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    import pandas as pd

    from trackbench.evaluation.trackformers_published import noise_rows, read_published
    from trackbench.plotting.label_noise import label_noise_figure
    from trackbench.plotting.sample import sample_header, save_as

    published = noise_rows(read_published(inputs.published))
    quoted = published[published["set"] == params.set]
    header = sample_header(inputs.manifest, {})
    save_as(out.png, *label_noise_figure(pd.read_csv(inputs.table), quoted, header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
