"""Table and heat map of models trained on one set of few tracks and tested on another."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

ALL_SETS = "hits of the full detector, noise removed by truth"  # the manifest names one set


def main(inputs, out, params):
    from dataclasses import replace

    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.trackformers import read_entries
    from trackbench.evaluation.trackformers_matrix import matrix_markdown, matrix_table
    from trackbench.evaluation.trackformers_published import read_published
    from trackbench.files import write_text
    from trackbench.plotting.matrix import matrix_figure
    from trackbench.plotting.sample import sample_header, save_as

    sample = Sample.load(inputs.manifest)
    entries = read_entries(params.rows, inputs.files)
    published = read_published(inputs.published)
    table = matrix_table(entries, published, params.quoted_as, source=sample.origin())
    header = replace(sample_header(inputs.manifest, {}), n_events=None, hits=ALL_SETS)  # what differs is left out
    save_as(out.png, *matrix_figure(table, header))
    text = matrix_markdown(table, f"{sample.conditions()}; {ALL_SETS}")
    write_text(out.markdown, text)
    write_text(out.page, markdown_page(params.title, text))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
