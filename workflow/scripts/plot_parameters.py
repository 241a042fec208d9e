"""Plot predicted against true track parameters of each hit, and the widths of the residuals."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from dataclasses import replace

    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.trackformers_published import headline_rows, read_published
    from trackbench.files import write_text
    from trackbench.parquet import read_frame
    from trackbench.plotting.parameter_maps import map_figure, width_figure, width_markdown
    from trackbench.plotting.sample import sample_header, save_as

    frames = dict(zip(params.rows, map(read_frame, inputs.predictions), strict=True))
    n_events = next(iter(frames.values()))["event_id"].nunique() if frames else None
    header = sample_header(inputs.manifest, {}, n_events)
    for (row, frame), png in zip(frames.items(), out.maps, strict=True):
        save_as(png, *map_figure(frame, row, params.labels.get(row, ""), header))
    published = headline_rows(read_published(inputs.published))
    quoted = published[(published["set"] == params.set) & (published["row"] == params.quoted_row)]
    figure, table = width_figure(frames, params.labels, quoted, header)
    save_as(out.widths_png, figure, table)
    sample = Sample.load(inputs.manifest)
    note = replace(sample, n_test=n_events or sample.n_test).label()
    write_text(out.page, markdown_page(params.title, width_markdown(table, note, params.labels)))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
