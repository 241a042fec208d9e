"""Plot what attention masks keep of the tracks, and their time and memory."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out):
    from dataclasses import replace

    import pandas as pd

    from trackbench.mask_study import mask_table
    from trackbench.plotting.masks import mask_figure, mask_scaling_figure
    from trackbench.plotting.sample import sample_header, save_as

    study = pd.read_csv(inputs.masks)
    sample = mask_table(study)
    header = sample_header(inputs.manifest, {}, n_events=int(sample["n_events"].iloc[0]))
    setup = study["setup"].iloc[0]
    save_as(out.png, *mask_figure(sample, setup, header))
    save_as(out.sizes, *mask_scaling_figure(mask_table(study, "tiled"), setup, replace(header, n_events=1)))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output)
