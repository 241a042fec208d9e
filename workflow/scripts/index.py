"""Write the index and the manifest of a sample."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(shard_hits, out, params, threads):
    from trackbench.data.shards import write_index
    from trackbench.data.splits import split_events
    from trackbench.evaluation.selection import TruthSelection

    selection = TruthSelection(**params.selection)
    splits = split_events(sum(params.events.values()), params.events, params.seed)
    fields = {"source": params.source, "seed": params.seed, "truth_selection": selection.as_dict()}
    fields["threads"] = threads
    write_index(shard_hits, out.index, out.manifest, splits, fields, selection.selected)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.hits, snakemake.output, snakemake.params, snakemake.threads)
