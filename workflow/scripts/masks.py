"""Measure attention masks: pairs of the same particle they keep, time and memory."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

THREADS = 1  # of attention, whatever the job reserves to be undisturbed


def main(inputs, out, params):
    from dataclasses import replace
    from itertools import islice

    import torch

    from trackbench.data.shards import read_events
    from trackbench.evaluation.page import markdown_page
    from trackbench.evaluation.sample import Sample
    from trackbench.files import write_text
    from trackbench.mask_cost import CostPlan
    from trackbench.mask_study import mask_markdown, mask_study, mask_table

    torch.set_num_threads(THREADS)
    events = islice(read_events(inputs.index, "test"), params.events)
    study = mask_study(events, params.settings, CostPlan(sizes=tuple(params.sizes)), params.seed)
    write_text(out.csv, study.to_csv(index=False))
    table = mask_table(study)
    sample = replace(Sample.load(inputs.manifest), n_test=int(table["n_events"].iloc[0]))
    text = mask_markdown(table, study["setup"].iloc[0], sample.label())
    write_text(out.markdown, text)
    write_text(out.page, markdown_page("Attention masks", text))


with job(snakemake.log[0], THREADS):
    main(snakemake.input, snakemake.output, snakemake.params)
