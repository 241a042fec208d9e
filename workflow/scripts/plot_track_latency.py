"""Plot the time of network and clustering against the number of tracks and of hits."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from dataclasses import replace

    import pandas as pd

    from trackbench.evaluation.trackformers_published import read_published
    from trackbench.plotting.sample import sample_header, save_as
    from trackbench.plotting.track_latency import track_latency_figure

    timing = pd.concat([pd.read_csv(path) for path in inputs.timing], ignore_index=True)
    devices = dict.fromkeys(zip(timing["device"], timing["device_name"], strict=True))
    statement = "; ".join(f"{device}: {name}" for device, name in devices) + "; 1 CPU thread, first calls excluded"
    header = replace(
        sample_header(inputs.manifest, {}), n_events=None, hits="hits of the full detector"
    )  # events are made of several
    how = {"published": read_published(inputs.published), "header": header, "labels": params.labels}
    save_as(out.png, *track_latency_figure(timing, statement, **how))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
