"""Plot efficiency and fakes under varied conditions."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    import pandas as pd

    from trackbench.plotting.effects import effects_figure
    from trackbench.plotting.sample import sample_header, save_as

    note = ", ".join(["the same collisions in every row", *([params.reconstruction] if params.reconstruction else [])])
    header = sample_header(inputs.manifest, params.selection, n_events=params.events, note=note)
    # A variation may be called "None" or "1".
    table = pd.read_csv(inputs.table, dtype={"effect": str}, keep_default_na=False, na_values=[""])
    save_as(out.png, *effects_figure(table, header, params.interval, params.nominal))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
