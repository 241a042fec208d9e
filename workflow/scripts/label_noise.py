"""Score clusters of true network outputs with noise added, on the test events of a data set of sub-events."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.ceilings import label_noise_table
    from trackbench.data.shards import read_events
    from trackbench.evaluation.sample import Sample
    from trackbench.files import write_text

    source = Sample.load(inputs.manifest).origin()
    table = label_noise_table(read_events(inputs.index, "test"), params.scales, seed=params.seed, source=source)
    write_text(out, table.to_csv(index=False, lineterminator="\n"))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output.csv, snakemake.params)
