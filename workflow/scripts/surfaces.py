"""Score the surface-projection clusterers as attention masks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.data.shards import read_events
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.surfaces import caption
    from trackbench.files import write_text
    from trackbench.surface_table import surface_markdown, surface_table

    sample = Sample.load(inputs.manifest)
    events = read_events(inputs.index, "test")
    table = surface_table(events, params.settings, inputs.talk, params.seed, sample, params.interval)
    write_text(out.csv, table.to_csv(index=False))
    text = f"{surface_markdown(table)}\n{caption(sample, params.interval)}\n"
    write_text(out.markdown, text)
    write_text(out.page, markdown_page("Surface projection as an attention mask", text))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
