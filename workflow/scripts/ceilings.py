"""Write the track candidates of a perfect network for a data set of sub-events."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(index, out, names):
    from trackbench.ceilings import write_ceilings

    paths = zip(out.tracks, out.parameters, strict=True)
    write_ceilings(index, dict(zip(names, paths, strict=True)))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input.index, snakemake.output, snakemake.params.names)
