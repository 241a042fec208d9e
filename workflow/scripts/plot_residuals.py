"""Plot pulls of the fitted track parameters, and their resolution, bias and pulls against pT and eta."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.evaluation.fit_quality import SECONDARY
    from trackbench.parquet import read_frame
    from trackbench.plotting.residuals import pull_figure, pull_profile_figure, resolution_figure
    from trackbench.plotting.sample import sample_header, save_as

    header = sample_header(inputs.manifest, params.selection, note=params.reconstruction)
    frames = dict(zip(params.trackers, map(read_frame, inputs.residuals), strict=True))
    frames = {name: frame for name, frame in frames.items() if len(frame)}  # seeds alone are not fitted
    save_as(out.pulls_png, *pull_figure(frames, header))
    save_as(out.secondary_png, *pull_figure(frames, header, SECONDARY))
    for variable in ("pt", "eta"):
        save_as(out[f"residuals_{variable}_png"], *resolution_figure(frames, variable, header))
        save_as(out[f"pulls_{variable}_png"], *pull_profile_figure(frames, variable, header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
