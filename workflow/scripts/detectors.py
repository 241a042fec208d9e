"""Write the TrackML detector table built from the ACTS geometry."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(out):
    from trackbench.files import atomic_path
    from trackbench.geometry.acts_detector import build_detectors

    with atomic_path(out) as temporary:
        build_detectors().to_csv(temporary, index=False)


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.output.table)
