"""Plot what each stage of each tracker takes on the main sample."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.plotting.sample import read_timing, run_statement, sample_header, save_as
    from trackbench.plotting.stages import stages_figure

    timing = read_timing(inputs.timing, params.trackers, ["main"])
    header = sample_header(inputs.manifest, {}, note=params.reconstruction)
    save_as(out.png, *stages_figure(timing, run_statement(inputs.runs[0]), header=header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
