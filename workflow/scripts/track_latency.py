"""Time network and clustering of one row on events of several numbers of tracks, on every device there is."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

THREADS = 1  # of the tracker, whatever the job reserves to be undisturbed


def main(inputs, out, row, params):
    import json
    from itertools import islice

    from trackbench.data.shards import read_events
    from trackbench.files import write_text
    from trackbench.track_latency import LatencyPlan, time_on_devices

    events = list(islice(read_events(inputs.index, "test"), params.events))
    limits = {"limit_s": params.limit_s, "memory_mb": params.memory_mb}
    plan = LatencyPlan(tuple(params.tracks), params.calls, **limits, seed=params.seed)
    tuned, weights = inputs.get("tuned"), inputs.get("weights")
    settings = json.loads(Path(tuned).read_text(encoding="utf-8"))["settings"] if tuned else dict(params.settings)
    if weights:
        settings["checkpoint"] = str(weights)
    timing = time_on_devices(params.tracker, settings, events, plan, params.devices)
    write_text(out.timing, timing.assign(row=row).to_csv(index=False))


with job(snakemake.log[0], THREADS):
    main(snakemake.input, snakemake.output, snakemake.wildcards.tracker, snakemake.params)
