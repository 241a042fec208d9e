"""Data sets of few tracks: sub-events made of some particles of a large event, with all their hits and no noise.

A sub-event number is that of its parent times 1000 plus the number of the draw, and its split is that of its parent.
Source: Dobreva, MSc thesis "Translating Hits to Tracks", and TrackFormers-Models at 9508351,
``EncReg/data_processing/trackml_data.py``. Differs from it in: draws are random, disjoint and seeded (``first_n`` is
its rule), particles without a hit are not counted, sub-events of one parent never straddle splits.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.prepare import DataSelection
from trackbench.data.shard_file import Shard, shard_writer
from trackbench.data.shards import add_event, read_index, write_index
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe

MODES = ("random", "first_n")
MAX_DRAWS = 999
_DRAW = 1000  # sub-event number = parent number * _DRAW + draw
_STAGE = 2  # keeps this random stream apart from others made of the same seed
_CUT_AGAIN = "remove its shards and cut them again"


@dataclass(frozen=True)
class SubeventConfig:
    """How sub-events are cut out of their parents.

    low, high: particles of a sub-event, drawn uniformly in between, both included
    length: most hits a sub-event may have, the padded length of networks
    draws: sub-events per parent, 1..999
    mode: "random" = disjoint random draws among the particles with a hit; "first_n" = the first particles by
        particle_id, every draw out of those of the draw before, as the source does it
    seed: of the draws
    Raises ConfigError for a value outside these.
    """

    low: int
    high: int
    length: int
    draws: int = 5
    mode: str = "random"
    seed: int = 0

    def __post_init__(self):
        for name, smallest in (("low", 1), ("high", 1), ("length", 1), ("draws", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise self._bad(name, f"an integer >= {smallest}")
        if self.high < self.low:
            raise self._bad("high", f">= low = {self.low}")
        if self.draws > MAX_DRAWS:
            raise self._bad("draws", f"at most {MAX_DRAWS}")
        if self.mode not in MODES:
            raise self._bad("mode", "one of " + ", ".join(MODES))

    @property
    def name(self) -> str:
        """Name of the data set in the configuration, such as ``10-50``."""
        return f"{self.low}-{self.high}"

    def as_dict(self) -> dict:
        """Return the fields as plain values, for manifests."""
        return asdict(self)

    def _bad(self, name: str, expected: str) -> ConfigError:
        where = f"subevents.sets.{self.low}-{self.high}.{name}"
        return ConfigError(describe(where, f"value {getattr(self, name)!r}", expected))


def parent_of(event_id: int) -> int:
    """Return the event number of the parent of a sub-event."""
    return event_id // _DRAW


def cut_event(hits: Hits, truth: Truth, config: SubeventConfig) -> list[tuple[Hits, Truth]]:
    """Cut the sub-events of one parent.

    hits, truth: the parent, row by row, hits of the full detector without padding
    Returns ``config.draws`` events in the order of the draws: all hits of the drawn particles, in the parent's order,
    and a truth that lists these particles only. Hit numbers, weights and counts of hits are the parent's: the counts
    hold for the sub-event too, as it has every hit; the weights do not sum to 1. The draws depend on seed, range and
    parent number only.
    Raises InputError if the parent has too few particles, or a sub-event more hits than ``config.length``.
    """
    seen = np.flatnonzero(truth.particles["n_hits"].to_numpy() > 0)
    if not seen.size:
        raise InputError(describe(f"event {truth.event_id}", "no particle with a hit", "tracks to cut sub-events of"))
    ids = truth.particles["particle_id"].to_numpy(np.int64)
    row = np.where(truth.particle_id > 0, np.searchsorted(ids, truth.particle_id), -1)
    draw = _random_draws if config.mode == "random" else _nested_draws
    events = []
    for number, picked in enumerate(draw(seen, truth.event_id, config)):
        event_id = truth.event_id * _DRAW + number
        kept = np.flatnonzero(np.isin(row, picked))
        if len(kept) > config.length:
            what, remedy = f"{len(kept)} hits", f"raise subevents.sets.{config.name}.length to {len(kept)} or more"
            raise InputError(describe(f"event {event_id}", what, f"at most {config.length}", remedy))
        events.append(_sub_event(hits, truth, kept, np.sort(picked), event_id))
    return events


def cut_shard(parent_hits: str | Path, config: SubeventConfig, out_hits: str | Path, out_particles: str | Path) -> None:
    """Cut the sub-events of one prepared shard of parents and write them as a prepared shard.

    parent_hits: hits file of the shard of parents; its particles file lies beside it
    Raises InputError if the parents do not hold the full detector or ``cut_event`` refuses one; then nothing is
    written.
    """
    parents = Shard(parent_hits)
    _check_selection(parents)
    records = []
    with shard_writer(out_hits, out_particles, parents.features) as writer:
        for row in range(len(parents.events)):
            for hits, truth in cut_event(*parents.read(row), config):
                records.append(add_event(writer, hits, truth))
        carried = {name: parents.metadata[name] for name in ("selection", "raw")}
        writer.set_metadata({"events": records, "subevents": config.as_dict(), **carried})


def write_subevent_index(
    shard_hits: Sequence[str | Path],
    parents_index: str | Path,
    out_index: str | Path,
    out_manifest: str | Path,
    fields: Mapping[str, object],
    is_selected: Callable[[pd.DataFrame], np.ndarray],
) -> None:
    """Write the index and the manifest of a data set of sub-events, as ``write_index`` does for any sample.

    shard_hits: the ``shard-*-hits.parquet`` files, all cut with one configuration
    parents_index: index of the parents, with their manifest beside it; a sub-event is in the split of its parent
    fields, is_selected: as for ``write_index``
    The manifest says under ``subevents`` how they were cut and the ``sha256`` of the parents. ``sigma_z_measured`` is
    that of the parents, because sub-events see their vertices several times.
    Raises InputError if a shard is damaged or the sub-events are not all draws of exactly these parents.
    """
    shards = [Shard(path) for path in sorted(map(str, shard_hits))]
    config = _common_config(shards, out_index)
    index = read_index(parents_index)
    split_of = dict(zip(index["event_id"].tolist(), index["split"].tolist(), strict=True))
    event_ids = [event["event_id"] for shard in shards for event in shard.events]
    _check_draws(event_ids, split_of, config, out_index)
    splits = {position: split_of[parent_of(event_id)] for position, event_id in enumerate(event_ids)}
    parents = _read_manifest(Path(parents_index).with_name("manifest.json"))
    changed = {
        "subevents": {**config.as_dict(), "parents_sha256": parents["sha256"]},
        "selection_label": selection_label(config),
        "sigma_z_measured": parents["sigma_z_measured"],
    }
    write_index(shard_hits, out_index, out_manifest, splits, {**fields, **changed}, is_selected)


def selection_label(config: SubeventConfig) -> str:
    """Return the hits of a data set in words, for captions."""
    return f"hits of the full detector, noise removed by truth, sub-events of {config.low}-{config.high} particles"


def _sizes(event_id: int, config: SubeventConfig) -> tuple[np.random.Generator, np.ndarray]:
    """Return the random stream of a parent and the particles wanted per draw, (draws,) int."""
    rng = np.random.default_rng([config.seed, event_id, config.low, config.high, _STAGE])
    return rng, rng.integers(config.low, config.high + 1, config.draws)


def _random_draws(seen: np.ndarray, event_id: int, config: SubeventConfig) -> list[np.ndarray]:
    """Disjoint random rows of particles per draw. seen: (p,) rows to draw from."""
    rng, sizes = _sizes(event_id, config)
    _check_enough(len(seen), int(sizes.sum()), event_id, config)
    ends = np.cumsum(sizes)
    return np.split(rng.permutation(seen)[: ends[-1]], ends[:-1])


def _nested_draws(seen: np.ndarray, event_id: int, config: SubeventConfig) -> list[np.ndarray]:
    """The first rows, and of those the first, and so on: the source cuts its table down and draws from what is left.

    A later draw that asks for more than is left has all of it. seen: (p,) rows in ascending particle_id
    """
    _, sizes = _sizes(event_id, config)
    _check_enough(len(seen), int(sizes[0]), event_id, config)
    return [seen[:size] for size in np.minimum.accumulate(sizes)]


def _check_enough(n_seen: int, n_wanted: int, event_id: int, config: SubeventConfig) -> None:
    if n_wanted > n_seen:
        n_draws = config.draws if config.mode == "random" else 1
        expected = f"the {n_wanted} of {n_draws} draws of {config.name}"
        remedy = f"lower subevents.sets.{config.name}.draws or take larger parents"
        raise InputError(describe(f"event {event_id}", f"{n_seen} particles with a hit", expected, remedy))


def _sub_event(hits: Hits, truth: Truth, kept: np.ndarray, picked: np.ndarray, event_id: int) -> tuple[Hits, Truth]:
    """Hits ``kept`` and particles ``picked``, both ascending rows, as an event of their own."""
    part = replace(hits.take(kept), event_id=event_id)
    particles = truth.particles.iloc[picked].reset_index(drop=True)
    return part, Truth(part.hit_id, truth.particle_id[kept], truth.weight[kept], particles, event_id)


def _check_selection(parents: Shard) -> None:
    selection = DataSelection(**parents.metadata["selection"])
    if selection.detector != "full" or selection.hit_eta_max is not None:
        remedy = "prepare the parents with detector: full and no hit_eta_max"
        raise InputError(describe(parents.path, selection.label(), "hits of the full detector", remedy))


def _common_config(shards: Sequence[Shard], where: str | Path) -> SubeventConfig:
    if not shards:
        raise InputError(describe(where, "no shards", "at least one"))
    found = {json.dumps(shard.metadata.get("subevents"), sort_keys=True) for shard in shards}
    if len(found) > 1 or None in map(json.loads, found):
        what = "its shards were cut in different ways: " + " and ".join(sorted(found))
        raise InputError(describe(where, what, "one", _CUT_AGAIN))
    return SubeventConfig(**json.loads(found.pop()))


def _check_draws(event_ids: Sequence[int], split_of: Mapping, config: SubeventConfig, where: str | Path) -> None:
    draws = Counter(map(parent_of, event_ids))
    for parent in sorted(draws.keys() | split_of.keys()):
        expected = config.draws if parent in split_of else 0
        if draws[parent] != expected:
            what = f"{draws[parent]} sub-events of parent {parent}"
            raise InputError(describe(where, what, f"{expected}, by the index of the parents", _CUT_AGAIN))


def _read_manifest(path: Path) -> dict:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {name: manifest[name] for name in ("sha256", "sigma_z_measured")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "index the parents again"
        raise InputError(describe(path, f"not a manifest ({error})", "that of the parents", remedy)) from error
