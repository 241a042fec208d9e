"""Plot the DM efficiency of the rows of a set of whole events against their time per event."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    import json

    from trackbench.evaluation.complete import read_rows
    from trackbench.plotting.dm_latency import dm_latency_figure
    from trackbench.plotting.sample import sample_header, save_as

    facts = json.loads(Path(inputs.runs[0]).read_text(encoding="utf-8"))
    statement = f"{facts['machine']['cpu']}, 1 thread; CPU process time, first call excluded, jobs side by side"
    header = sample_header(inputs.manifest, params.selection)
    save_as(out.png, *dm_latency_figure(read_rows(inputs.metrics), statement, header, params.interval))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
