"""Write which threads, machine and versions made each result."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(manifests, out, params, threads):
    from trackbench.evaluation.page import markdown_page
    from trackbench.files import write_text
    from trackbench.provenance import provenance, provenance_markdown

    table = provenance(manifests, params.folder, threads)
    text = provenance_markdown(table)
    write_text(out.csv, table.to_csv(index=False))
    write_text(out.markdown, text)
    write_text(out.page, markdown_page("Provenance", text))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.manifests, snakemake.output, snakemake.params, snakemake.threads)
