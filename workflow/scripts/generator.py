"""Initialise the event generator once, so that shards do not race for its cache."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(cache, hard_process):
    from trackbench.simulation.config import SimulationConfig
    from trackbench.simulation.simulate import prepare_generator

    prepare_generator(SimulationConfig(pileup=1.0, hard_process=hard_process), Path(cache))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.output.cache, snakemake.params.hard_process)
