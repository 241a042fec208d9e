"""Plot rows that differ in a setting or two, paired to the first of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    import json

    import pandas as pd

    from trackbench.evaluation.ablation import ablation_table
    from trackbench.evaluation.published import read_published
    from trackbench.evaluation.tables import Measured
    from trackbench.plotting.ablation import Words, ablation_figure, training_statement
    from trackbench.plotting.ablation_blocks import quoted_blocks
    from trackbench.plotting.sample import sample_header, save_as

    rows = pd.DataFrame(params.rows)
    files = zip(rows["row"], inputs.counts, inputs.timing, strict=True)
    measured = {row: Measured.load(counts, timing=timing) for row, counts, timing in files}
    models = [model for model in rows["model"].unique() if model]
    texts = (Path(path).read_text(encoding="utf-8") for path in inputs.facts)
    facts = {model: json.loads(text) for model, text in zip(models, texts, strict=True)}
    rows["steps"] = [facts[model]["steps"] if model else None for model in rows["model"]]
    evaluation = {key: params.evaluation[key] for key in ("interval", "replicas")}
    table = ablation_table(measured, **evaluation, seed=params.seed)
    statement = "\n".join(filter(None, [training_statement(facts), "; ".join(params.remarks)]))
    words = Words(params.title, statement, params.axis)
    quoted = quoted_blocks(read_published(inputs.published)) if params.quoted else None
    header = sample_header(inputs.manifest, params.selection)
    save_as(out.png, *ablation_figure(table, rows, words, header, quoted))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
