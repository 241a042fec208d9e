"""Pad events to a fixed length, for trackers that need one."""

from dataclasses import replace

import numpy as np

from trackbench.data.hits import Hits
from trackbench.errors import ConfigError, InputError, describe

PAD_HIT_ID = -1


def pad_hits(hits: Hits, length: int) -> Hits:
    """Append padding so that the event has exactly ``length`` hits.

    length: number of hits after padding, >= 1
    Returns hits (length,): the given ones first, then padding with ``valid`` False, hit_id -1 and
    zeros elsewhere. Labels of the first ``len(hits)`` entries belong to the given hits.
    Raises InputError if the event is longer: cutting hits would silently lose tracks.
    """
    if isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 1:
        raise ConfigError(describe("data.pad_to", f"value {length!r}", "an integer >= 1"))
    n_pad = int(length) - len(hits)
    if n_pad < 0:
        remedy = f"set data.pad_to to {len(hits)} or more"
        raise InputError(describe(f"event {hits.event_id}", f"{len(hits)} hits", f"at most {length}", remedy))
    return replace(
        hits,
        hit_id=_extend(hits.hit_id, n_pad, PAD_HIT_ID),
        xyz=np.concatenate([hits.xyz, np.zeros((n_pad, 3))]),
        volume_id=_extend(hits.volume_id, n_pad, 0),
        layer_id=_extend(hits.layer_id, n_pad, 0),
        module_id=_extend(hits.module_id, n_pad, 0),
        valid=_extend(hits.valid, n_pad, False),
        features={name: _extend(values, n_pad, 0.0) for name, values in hits.features.items()},
    )


def _extend(values: np.ndarray, n_pad: int, fill: float) -> np.ndarray:
    return np.concatenate([values, np.full(n_pad, fill, dtype=values.dtype)])
