"""Download one archive of the Kaggle competition."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(out):
    from trackbench.data.sources import kaggle_source

    archive = Path(out)
    kaggle_source(archive.name, archive.parent)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.output.archive)
