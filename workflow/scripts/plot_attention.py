"""Plot how much of a track each clusterer keeps against the attention it needs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out):
    from dataclasses import replace

    import pandas as pd

    from trackbench.evaluation.surfaces import SCORED_TRACKS
    from trackbench.plotting.attention import attention_figure
    from trackbench.plotting.sample import sample_header, save_as

    header = replace(sample_header(inputs.manifest, {}), selection=SCORED_TRACKS)
    save_as(out.png, *attention_figure(pd.read_csv(inputs.surfaces), header=header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output)
