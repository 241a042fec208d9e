"""Draw one test event with the candidates of the reference tracker."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from trackbench.jobs import job


def main(inputs, out, params):
    from trackbench.data.shards import read_events
    from trackbench.evaluation.run import match_labels, read_tracks
    from trackbench.files import write_text
    from trackbench.plotting.display3d import display_page
    from trackbench.plotting.event_display import event_display
    from trackbench.plotting.sample import sample_header, save_as

    hits, truth = next(read_events(inputs.index, "test", limit=1))
    labels = match_labels(read_tracks(inputs.tracks)[hits.event_id], hits.hit_id, inputs.tracks)
    header = sample_header(inputs.manifest, {}, n_events=1)
    pt_min = params.selection["pt_min"]
    save_as(out.png, *event_display(hits, truth, labels, params.tracker, pt_min, header=header))
    write_text(out.page, display_page(hits, truth, {params.tracker: labels}, pt_min, header=header))


with job(snakemake.log[0], snakemake.threads):
    main(snakemake.input, snakemake.output, snakemake.params)
