"""Plot the loss curves of all trained networks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out):
    import json
    from dataclasses import replace

    import pandas as pd

    from trackbench.plotting.sample import common_header, sample_header, save_as
    from trackbench.plotting.training import training_figure

    histories = [pd.read_csv(path) for path in inputs.histories]
    facts = [json.loads(Path(path).read_text(encoding="utf-8")) for path in inputs.facts]
    # Each panel names its own set and number of events.
    header = replace(common_header([sample_header(path, {}) for path in inputs.manifests]), n_events=None)
    save_as(out.png, *training_figure(histories, facts, header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output)
