"""Compare the simulated events with the reference, as table and figure."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(manifests, out):
    import json

    from trackbench.files import write_text
    from trackbench.plotting.sample import save_as
    from trackbench.plotting.style import Header
    from trackbench.plotting.validation import plot_validation
    from trackbench.simulation.validation import distributions, summarise

    events = Path(manifests[0]).parents[1]
    summary = summarise(events)
    write_text(out.table, summary.to_csv(index=False))
    raw = json.loads(Path(manifests[0]).read_text())
    n_events = int(summary["n_events"].iloc[0])
    header = Header(raw["pileup"], "", n_events, sample="TrackML-like simulation", sigma_z=raw["sigma_z"])
    save_as(out.png, *plot_validation(summary, distributions(events), header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.manifests, snakemake.output)
