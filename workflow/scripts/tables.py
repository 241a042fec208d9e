"""Write the long table of all metrics and the summary tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    import json

    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.published import read_published
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.evaluation.summary import summary_latex, summary_markdown
    from trackbench.evaluation.tables import Measured, TableOptions, metrics_table
    from trackbench.files import write_text

    manifest = json.loads(Path(inputs.manifest).read_text())
    files = zip(inputs.counts, inputs.particles, inputs.candidates, inputs.timing, inputs.runs, strict=True)
    measured = {name: Measured.load(*paths) for name, paths in zip(params.trackers, files, strict=True)}
    simulated = manifest["source"] == "simulate"
    options = TableOptions(
        selection=f"{TruthSelection(**params.selection).label()}; {manifest['selection_label']}",
        reference=params.evaluation["reference"],
        interval=params.evaluation["interval"],
        replicas=params.evaluation["replicas"],
        seed=params.seed,
        truth_filter=manifest["selection"]["truth_filter"],
        source="measured here (simulated)" if simulated else f"measured here ({manifest['source']} data)",
    )
    table = metrics_table(measured, options, read_published(inputs.published))
    write_text(out.metrics, table.to_csv(index=False))
    note = "{pileup:g} pile-up, sigma_z = {sigma_z:g} mm, hit efficiency {hit_efficiency:g}" if simulated else ""
    how = {"note": note.format(**manifest), "interval": params.evaluation["interval"].title()}
    summary = summary_markdown(table, **how)
    write_text(out.markdown, summary)
    write_text(out.page, markdown_page(params.title, summary))
    write_text(out.latex, summary_latex(table, **how))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
