"""Write the index and the manifest of a data set of sub-events."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params, threads):
    from trackbench.data.subevents import write_subevent_index
    from trackbench.evaluation.selection import TruthSelection

    selection = TruthSelection(**params.selection)
    fields = {"source": params.source, "seed": params.config["seed"], "truth_selection": selection.as_dict()}
    fields["threads"] = threads
    write_subevent_index(inputs.hits, inputs.parents, out.index, out.manifest, fields, selection.selected)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
