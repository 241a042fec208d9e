"""Outputs of a trained regression network for every test hit, beside the true targets: one Parquet file."""

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.shards import read_events
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.files import atomic_path
from trackbench.parquet import parquet_writer
from trackbench.trackers.layers.learned import choose_device, projection_clusters

PARAMETERS = ("theta", "sin_phi", "cos_phi")  # the fourth output is what ``NetworkConfig.targets`` says
KINDS = ("encreg", "joint")  # of weights files


def write_predictions(
    weights: str | os.PathLike,
    index_csv: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str = "test",
    limit: int | None = None,
    device: str = "auto",
    backend: str = "auto",
) -> None:
    """Apply a network to the events of a split and write what it says about each hit.

    weights: file of kind "encreg" or "joint"; index_csv: of the prepared sample; limit: at most so many events
    device: "auto", "cpu" or "cuda"; backend: of attention
    Writes ``event_id hit_id particle_id pt eta``, the outputs ``theta sin_phi cos_phi`` and ``charge`` or
    ``q_over_pt`` (float32; theta in rad, ``q_over_pt`` = q / (2.5 pT), clipped to +-2), and the same with ``true_``
    before, in the order of events and hits; pt [GeV], eta and true values are NaN for noise. Memory holds one event.
    Raises InputError for weights that are damaged or of another kind, or a split without events.
    """
    import pyarrow as pa

    from trackbench.trackers.layers.weights import load_weights

    device = choose_device(device, "device of the predictions")
    network, _ = load_weights(weights, KINDS)
    network = network.to(device)
    writer = None
    with atomic_path(out) as temporary, ExitStack() as stack:
        for hits, truth in read_events(Path(index_csv), split, limit=limit):
            table = pa.Table.from_pandas(predict_event(network, hits, truth, device, backend), preserve_index=False)
            table = table.replace_schema_metadata(None)
            if writer is None:
                writer = stack.enter_context(parquet_writer(temporary, table.schema))
            writer.write(table)
        if writer is None:
            raise InputError(describe(index_csv, f"no events in the split '{split}'", "at least one"))


def predict_event(network, hits: Hits, truth: Truth, device: str = "cpu", backend: str = "auto") -> pd.DataFrame:
    """Outputs and true targets of the hits of one event.

    network: ``HitNetwork`` in evaluation mode, on ``device``; hits: all real, row by row those of ``truth``
    Returns the columns of ``write_predictions``.
    """
    import torch

    from trackbench.trackers.layers.batch import collate
    from trackbench.training.targets import hit_targets, particle_rows

    clusters = projection_clusters(network.config, hits)
    with torch.inference_mode():
        batch = collate([hits], None if clusters is None else [clusters]).to(device)
        found = network(batch, backend).parameters[0].float().cpu().numpy()
    true = hit_targets(truth, network.config.targets)
    names = (*PARAMETERS, network.config.targets)
    row = particle_rows(truth)
    kinematics = {
        name: np.append(truth.particles[name].to_numpy(np.float64), np.nan)[row].astype(np.float32)
        for name in ("pt", "eta")
    }
    return pd.DataFrame(
        {
            "event_id": np.full(len(hits), hits.event_id, dtype=np.int64),
            "hit_id": hits.hit_id,
            "particle_id": truth.particle_id,
            **kinematics,
            **{name: found[:, i] for i, name in enumerate(names)},
            **{f"true_{name}": true[:, i] for i, name in enumerate(names)},
        }
    )
