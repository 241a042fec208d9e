"""Plot the headline numbers per tracker and the paired differences."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

SHOWN = ("dm", "fake_rate", "fake_all")


def main(inputs, out, params):
    from trackbench.evaluation.complete import read_rows
    from trackbench.evaluation.tables import differences
    from trackbench.plotting.sample import sample_header, save_as
    from trackbench.plotting.summary import difference_figure, summary_figure

    header = sample_header(inputs.manifest, params.selection, note=params.reconstruction)
    metrics = read_rows(inputs.metrics)
    save_as(out.overview_png, *summary_figure(metrics, SHOWN, header=header, interval=params.interval))
    save_as(out.differences_png, *difference_figure(differences(metrics), header=header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
