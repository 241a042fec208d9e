"""Run one tracker over the test events of a sample."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job

THREADS = 1  # of the tracker, whatever the job reserves to be undisturbed


def main(index, tuned, out, name, params):
    import json

    from trackbench.data.padding import pad_hits
    from trackbench.data.shards import read_events
    from trackbench.runner import run_tracker
    from trackbench.sectored import build_sectored

    settings = json.loads(Path(tuned).read_text())["settings"] if tuned else params.settings
    tracker = build_sectored(params.tracker, settings, params.seed, **params.sectors)
    events = read_events(index, "test")
    if params.pad_to is not None:
        events = ((pad_hits(hits, params.pad_to), None) for hits, _ in events)
    facts = {"tracker": name, "module": params.tracker, "threads": THREADS}
    facts |= {"sectors": params.sectors, "pad_to": params.pad_to}
    run_tracker(tracker, events, out.tracks, out.parameters, out.timing, out.run, facts=facts)


with job(snakemake.log[0], THREADS):
    main(
        snakemake.input.index,
        snakemake.input.get("settings"),
        snakemake.output,
        snakemake.wildcards.tracker,
        snakemake.params,
    )
