"""Plot efficiency or fake rate against properties of particles, one figure each."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, kind, params):
    from trackbench.parquet import read_frame
    from trackbench.plotting.efficiency import efficiency_figure, fake_rate_figure
    from trackbench.plotting.sample import sample_header, save_as

    header = sample_header(inputs.manifest, params.selection, note=params.reconstruction)
    frames = dict(zip(params.trackers, map(read_frame, inputs.frames), strict=True))
    figure_of = efficiency_figure if kind == "efficiency" else fake_rate_figure
    for variable in params.variables:
        made = figure_of(frames, variable, reference=params.reference, header=header, interval=params.interval)
        save_as(out[f"{variable}_png"], *made)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.wildcards.kind, snakemake.params)
