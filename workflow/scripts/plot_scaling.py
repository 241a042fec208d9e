"""Plot time, memory and tracks of rows against the number of hits."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from dataclasses import replace

    import pandas as pd

    from trackbench.evaluation.published import read_published
    from trackbench.plotting.sample import sample_header, save_as
    from trackbench.plotting.scaling import scaling_figure

    study = pd.concat([pd.read_csv(path) for path in inputs.studies], ignore_index=True)
    devices = "; ".join(dict.fromkeys(study["device"] + ": " + study["device_name"]))
    # Events of several pile-ups, of which those that are tiled are one.
    header = replace(sample_header(inputs.manifest, params.selection), pileup=None, n_events=None)
    how = {"header": header, "interval": params.interval, "trained": params.trained}
    statement = f"{devices}; 1 CPU thread, first call excluded"
    save_as(out.png, *scaling_figure(study, statement, read_published(inputs.published), **how))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
