"""Time one tracker on one test event tiled to several numbers of hits."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(index, tuned, out, params):
    import json

    from trackbench.data.shards import read_events
    from trackbench.files import write_text
    from trackbench.sectored import build_sectored
    from trackbench.tiling import time_tiled

    settings = json.loads(Path(tuned).read_text())["settings"] if tuned else params.settings
    tracker = build_sectored(params.tracker, settings, params.seed, **params.sectors)
    hits, _ = next(read_events(index, "test", limit=1))
    timing = time_tiled(tracker, hits, tuple(params.sizes), params.seed, n_calls=params.calls)
    write_text(out, timing.to_csv(index=False))


with job(snakemake.log[0], threads=1):
    main(
        snakemake.input.index,
        snakemake.input.get("settings"),
        snakemake.output.timing,
        snakemake.params,
    )
