"""Check and select the raw events of one shard and write them as Parquet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(raw, out, shard, params):
    from trackbench.data.prepare import DataSelection
    from trackbench.data.shards import prepare_shard

    sources = [Path(raw[0]).parent] if params.simulated else raw
    selection = DataSelection(**params.data)
    n_events = sum(params.events.values())
    prepare_shard(sources, int(shard), params.shard_events, n_events, selection, out.hits, out.particles)


with job(snakemake.log[0], snakemake.threads):
    main(list(snakemake.input), snakemake.output, snakemake.wildcards.shard, snakemake.params)
