"""Measure one row of a set of whole events against the number of hits."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

THREADS = 1  # of the tracker, whatever the job reserves to be undisturbed


def main(inputs, out, params):
    import json

    from trackbench.data.shards import read_events
    from trackbench.evaluation.selection import TruthSelection
    from trackbench.files import write_text
    from trackbench.scaling import ScalingPlan, scaling_study, scan_events
    from trackbench.trackers.base import build_tracker

    tuned, weights, scan = (inputs.get(name) for name in ("tuned", "weights", "scan"))
    settings = json.loads(Path(tuned).read_text(encoding="utf-8"))["settings"] if tuned else dict(params.settings)
    if weights:
        settings["checkpoint"] = str(weights)
    tracker = build_tracker(params.tracker, settings, params.seed)
    limits = {"limit_s": params.limit_s, "memory_mb": params.memory_mb}
    plan = ScalingPlan(tuple(params.tiling), params.calls, **limits, seed=params.seed)
    hits, _ = next(read_events(inputs.index, "test", limit=1))
    events = scan_events(read_events(scan, "test"), params.pileups, params.events) if scan else ()
    study = scaling_study(tracker, hits, plan, events, TruthSelection(**params.selection))
    write_text(out.csv, study.assign(row=params.row).to_csv(index=False))


with job(snakemake.log[0], THREADS):
    main(snakemake.input, snakemake.output, snakemake.params)
