"""Plot seconds per event against the number of hits, the pile-up scan included."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.plotting.latency import latency_figure
    from trackbench.plotting.sample import read_timing, run_statement, sample_header, save_as

    scan = "scan" in params.samples
    timing = read_timing(inputs.timing, params.trackers, params.samples)
    header = sample_header(inputs.manifest, {}, scan=scan, note=params.reconstruction)
    protocol = "pile-up scan" if scan else "test"
    save_as(out.png, *latency_figure({protocol: timing}, run_statement(inputs.runs[0]), header=header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
