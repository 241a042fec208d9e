"""Plot FitAccuracy and efficiency of the rows of one set of few tracks against pT and eta."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.parquet import read_frame
    from trackbench.plotting.fit_accuracy import fit_accuracy_figure
    from trackbench.plotting.sample import sample_header, save_as

    frames = dict(zip(params.rows, map(read_frame, inputs.particles), strict=True))
    header = sample_header(inputs.manifest, {})
    save_as(out.png, *fit_accuracy_figure(frames, params.labels, header=header, seed=params.seed))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
