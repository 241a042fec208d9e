"""Write the table of the Trackformers' first phase: every row of every set of few tracks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.trackformers import (
        FirstPhaseOptions,
        first_phase_table,
        read_entries,
        timing_statement,
    )
    from trackbench.evaluation.trackformers_published import read_published
    from trackbench.evaluation.trackformers_text import first_phase_latex, first_phase_markdown
    from trackbench.files import write_text

    sample = Sample.load(inputs.manifest)
    entries = read_entries(params.rows, inputs.files)
    options = FirstPhaseOptions(params.replicas, params.seed, sample.origin())
    table = first_phase_table(entries, options, read_published(inputs.published))
    write_text(out.csv, table.to_csv(index=False))
    how = {"note": sample.conditions(), "timing": timing_statement(entries)}
    text = first_phase_markdown(table, **how)
    write_text(out.markdown, text)
    write_text(out.page, markdown_page(params.title, text))
    write_text(out.latex, first_phase_latex(table, **how))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
