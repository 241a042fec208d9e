"""Simulate one shard of events."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(cache, manifest, params):
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.simulate import simulate

    config = SimulationConfig(**params.settings)
    simulate(config, params.events, Path(manifest).parent, cache_dir=Path(cache), drawn_as=params.drawn_as)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.cache, snakemake.output.manifest, snakemake.params)
