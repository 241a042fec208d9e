"""Write the table of effects: where trackers lose under varied conditions."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.data.shards import read_index
    from trackbench.evaluation.effects import effects_markdown, effects_table
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.evaluation.tables import Measured
    from trackbench.files import write_text

    index = read_index(inputs.index)
    shard_of = dict(zip(index["event_id"].tolist(), index["shard"].astype(int), strict=True))
    files = zip(inputs.counts, inputs.particles, inputs.candidates, strict=True)
    measured = {name: Measured.load(*paths) for name, paths in zip(params.trackers, files, strict=True)}
    table = effects_table(measured, shard_of, params.effects, params.interval)
    write_text(out.csv, table.to_csv(index=False))
    particles = TruthSelection(**params.selection).label()
    per_row = f"{params.events} event{'' if params.events == 1 else 's'} per row"
    note = f"{Sample.load(inputs.manifest).label()}; {per_row}; particles: {particles}"
    text = effects_markdown(table, note, params.interval)
    write_text(out.markdown, text)
    write_text(out.page, markdown_page("Where trackers lose", text))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
