"""Plot time per event against the number of hits, the pile-up scan included, and events per second against pile-up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.plotting.latency import latency_figure
    from trackbench.plotting.sample import known_pileups, read_timing, run_statement, sample_header, save_as

    scan = "scan" in params.samples
    timing = read_timing(inputs.timing, params.trackers, params.samples)
    header = sample_header(inputs.manifest, {}, scan=scan, note=params.reconstruction)
    protocol = "pile-up scan" if scan else "test"
    pileup = known_pileups(inputs.manifest, params.scan)
    statement = run_statement(inputs.runs[0])
    save_as(out.png, *latency_figure({protocol: timing}, statement, header=header, pileup=pileup))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
