"""Cut the sub-events of one shard of parents."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(parent_hits, out, settings):
    from trackbench.data.subevents import SubeventConfig, cut_shard

    cut_shard(parent_hits, SubeventConfig(**settings), out.hits, out.particles)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.hits, snakemake.output, snakemake.params.config)
