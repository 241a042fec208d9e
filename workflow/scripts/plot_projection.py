"""Plot the hits of one test event on the projection surfaces."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.data.shards import read_events
    from trackbench.plotting.projection import projection_figure
    from trackbench.plotting.sample import sample_header, save_as

    hits, truth = next(read_events(inputs.index, "test", limit=1))
    header = sample_header(inputs.manifest, {}, n_events=1)
    save_as(out.png, *projection_figure(hits, truth, params.selection["pt_min"], header=header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
