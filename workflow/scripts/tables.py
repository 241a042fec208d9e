"""Write the long table of all metrics and the summary tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.evaluation.complete import read_rows
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.published import read_published
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.evaluation.summary import summary_latex, summary_markdown
    from trackbench.evaluation.tables import Measured, TableOptions, metrics_table
    from trackbench.evaluation.truth_filter import truth_filter_markdown
    from trackbench.files import write_text

    sample = Sample.load(inputs.manifest)
    files = zip(inputs.counts, inputs.particles, inputs.candidates, inputs.timing, inputs.runs, strict=True)
    measured = {name: Measured.load(*paths) for name, paths in zip(params.trackers, files, strict=True)}
    options = TableOptions(
        selection=TruthSelection(**params.selection).label(),
        reference=params.evaluation["reference"],
        interval=params.evaluation["interval"],
        replicas=params.evaluation["replicas"],
        seed=params.seed,
        truth_filter=sample.truth_filter,
        source=sample.origin(),
        hits=sample.selection_label,
        reconstruction=params.reconstruction,
    )
    table = metrics_table(measured, options, read_published(inputs.published))
    write_text(out.metrics, table.to_csv(index=False))
    how = {"note": sample.conditions(), "interval": params.evaluation["interval"].title()}
    how["side_by_side"] = params.get("side_by_side", False)
    summary = summary_markdown(table, **how, conventions=params.get("conventions", False))
    if inputs.get("kept"):
        summary += "\n" + truth_filter_markdown(read_rows(inputs.kept), table, (params.origin, params.sample))
    write_text(out.markdown, summary)
    write_text(out.page, markdown_page(params.title, summary))
    write_text(out.latex, summary_latex(table, **how))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
