"""Prepared samples: make the shards, their index and manifest, and read events back one by one.

The layout is in docs/architecture.md. A shard is written by one job and does not know its split, so
that another split or truth selection does not mean preparing again.
"""

import hashlib
import json
import math
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import trackbench
from trackbench.data.hits import Hits
from trackbench.data.prepare import DataSelection, build_event, vertex_positions
from trackbench.data.reader import list_events, read_event
from trackbench.data.shard_file import PREPARE_AGAIN, Shard, ShardWriter, shard_writer
from trackbench.data.splits import SPLITS
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.files import write_json, write_text

INDEX_AGAIN = "remove it and prepare again"
INDEX_COLUMNS = ("event_id", "split", "shard", "n_hits", "n_particles", "n_selected")

# Taken over from the manifest of simulated events; unknown (null) for others.
RAW_FIELDS = ("pileup", "sigma_z", "hit_efficiency", "noise_fraction", "hard_process", "field", "misalignment")
_SHARD_FOLDER = re.compile(r"shard-\d+")


def prepare_shard(
    raw_sources: Sequence[str | Path],
    shard: int,
    shard_events: int,
    n_events: int,
    selection: DataSelection,
    out_hits: str | Path,
    out_particles: str | Path,
) -> None:
    """Prepare one shard: read, check and select its raw events and write two Parquet files.

    raw_sources: directories or zips that hold all raw events together, of which the shard takes those at
        the sorted positions [shard * shard_events, (shard + 1) * shard_events); or one directory named
        ``shard-<k>`` as the simulation makes them, whose events are all this shard's
    n_events: number of events of the whole sample, which ends the last shard
    selection: the hits to keep, and whether with the features of their cells; corrupt cell values are limited to
        [0, 1], with a warning (``check_charges``, "repair")
    Raises InputError if the source has too few events, one is wrong or lacks the cells asked for; then nothing is
    written.
    """
    raw_sources = [Path(source) for source in raw_sources]
    records = []
    with shard_writer(out_hits, out_particles, selection.features) as writer:
        for event_id, prefix in _shard_members(raw_sources, shard, shard_events, n_events):
            hits, truth = build_event(read_event(prefix, selection.parts, "repair"), selection, event_id)
            records.append(add_event(writer, hits, truth))
        raw = _raw_fields(raw_sources[0])
        writer.set_metadata({"events": records, "selection": selection.as_dict(), "raw": raw})


def add_event(writer: ShardWriter, hits: Hits, truth: Truth) -> dict[str, object]:
    """Write an event to a shard. Returns its record: what the index and the manifest need of it."""
    vz = vertex_positions(truth.particles)
    sums = [len(vz), math.fsum(vz), math.fsum(vz**2)]
    return {"event_id": hits.event_id, "n_hits": len(hits), "sha256": writer.add(hits, truth), "vertex_z": sums}


def write_index(
    shard_hits: Sequence[str | Path],
    out_index: str | Path,
    out_manifest: str | Path,
    splits: Mapping[int, str],
    fields: Mapping[str, object],
    is_selected: Callable[[pd.DataFrame], np.ndarray],
) -> None:
    """Write the index and the manifest of a sample.

    shard_hits: the ``shard-*-hits.parquet`` files; each particles file lies beside its hits file
    splits: position of the event in the sample -> split, as ``split_events(n_events, ...)`` gives it
    fields: further entries of the manifest, such as source, seed and truth selection
    is_selected: truth selection of the metrics: ``Truth.particles`` -> (n_particles,) bool
    The index has one row per event: n_hits kept, n_particles with a hit, n_selected.
    Raises InputError if a shard is damaged, shards differ in selection, or their events are not those
    of ``splits``.
    """
    shards = [Shard(path) for path in sorted(map(str, shard_hits))]
    _check_shards(shards, splits, out_index)
    rows = []
    for shard in shards:
        for row, event in enumerate(shard.events):
            particles = shard.particles_frame(row)
            n_particles = int(np.count_nonzero(particles["n_hits"]))
            n_selected = int(np.count_nonzero(is_selected(particles)))
            split = splits[len(rows)]
            rows.append((event["event_id"], split, shard.name, event["n_hits"], n_particles, n_selected))
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    manifest = {**_manifest(shards, index), **fields}
    write_text(out_index, index.to_csv(index=False, lineterminator="\n"))
    write_json(out_manifest, manifest)


def read_index(index_csv: str | Path) -> pd.DataFrame:
    """Read the index of a sample: columns ``INDEX_COLUMNS``, split and shard as text.

    Raises InputError if it cannot be read, or is not that of the ``manifest.json`` beside an ``index.csv``.
    """
    types = {name: np.int64 for name in INDEX_COLUMNS} | {"split": str, "shard": str}
    try:
        index = pd.read_csv(index_csv, dtype=types)
    except (OSError, ValueError) as error:
        raise InputError(describe(index_csv, f"cannot be read ({error})", "an index", INDEX_AGAIN)) from error
    if list(index.columns) != list(INDEX_COLUMNS):
        wanted = "columns " + ", ".join(INDEX_COLUMNS)
        raise InputError(describe(index_csv, "columns " + ", ".join(index.columns), wanted, INDEX_AGAIN))
    unknown = sorted(set(index["split"].astype(str)) - set(SPLITS))
    if unknown:
        raise InputError(describe(index_csv, f"split {unknown[0]!r}", "one of " + ", ".join(SPLITS), INDEX_AGAIN))
    if index["event_id"].duplicated().any():
        event_id = index["event_id"][index["event_id"].duplicated()].iloc[0]
        raise InputError(describe(index_csv, f"event {event_id} twice", "each event once", INDEX_AGAIN))
    manifest = Path(index_csv).with_name("manifest.json")
    if Path(index_csv).name == "index.csv" and manifest.exists():
        _check_against(manifest, index, index_csv)
    return index


def _check_against(manifest: Path, index: pd.DataFrame, where: str | Path) -> None:
    """Raise InputError unless the index is the one its manifest was made from: a missing end would go unnoticed."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        expected = {name: value for name, value in content.items() if name in _index_facts(index)}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(describe(manifest, f"cannot be read ({error})", "a manifest", INDEX_AGAIN)) from error
    found = {name: value for name, value in _index_facts(index).items() if name in expected}
    if found != expected:
        words = [", ".join(f"{name} {value}" for name, value in facts.items()) for facts in (found, expected)]
        what = f"cut short or changed ({words[0]})"
        raise InputError(describe(where, what, f"{words[1]} as in {manifest.name}", "remove both and prepare again"))


def read_events(index_csv: str | Path, split: str, *, limit: int | None = None) -> Iterator[tuple[Hits, Truth]]:
    """Read the prepared events of a split one at a time, in the order of the index.

    index_csv: the index, beside its shards; split: "train", "val" or "test"; limit: at most so many,
        evenly spread over the split, so that sub-events of several parents are among them
    Yields (hits, truth); memory holds one event.
    Raises InputError if the index or a shard is missing or damaged.
    """
    if split not in SPLITS:
        raise ConfigError(describe("split", f"value {split!r}", "one of " + ", ".join(SPLITS)))
    index = read_index(index_csv)
    chosen = index[index["split"] == split]
    if limit is not None and limit < len(chosen):
        chosen = chosen.iloc[np.arange(limit) * len(chosen) // limit]
    for name, events in chosen.groupby("shard", sort=False):
        shard = Shard(Path(index_csv).parent / f"shard-{name}-hits.parquet")
        rows = {event["event_id"]: row for row, event in enumerate(shard.events)}
        for event_id in events["event_id"].tolist():
            if event_id not in rows:
                raise InputError(describe(shard.path, f"no event {event_id}", "the events of the index", PREPARE_AGAIN))
            yield shard.read(rows[event_id])


def _shard_members(sources: Sequence[Path], shard: int, shard_events: int, n_events: int) -> list[tuple[int, str]]:
    first, last = shard * shard_events, min((shard + 1) * shard_events, n_events)
    if first >= last or shard < 0:
        what = f"number {shard} is outside {n_events} events in shards of {shard_events}"
        raise ConfigError(describe("shard", what))
    events = sorted(event for source in sources for event in list_events(source))
    where = " and ".join(map(str, sources))
    if len(sources) == 1 and _SHARD_FOLDER.fullmatch(sources[0].name):
        if len(events) != last - first:
            what = f"{len(events)} events"
            raise InputError(describe(where, what, f"{last - first} for shard {shard}", "simulate it again"))
        return events
    if len({event_id for event_id, _ in events}) < len(events):
        raise InputError(describe(where, "the same event number in two of them", "unique event numbers"))
    if len(events) < n_events:
        remedy = "lower data.events or give more"
        raise InputError(describe(where, f"{len(events)} events", f"the {n_events} of data.events", remedy))
    return events[first:last]


def _raw_fields(raw_source: Path) -> dict[str, object]:
    """Conditions of simulated events from their manifest; null for what is not known."""
    manifest = raw_source / "manifest.json"
    if not manifest.is_file():
        return dict.fromkeys(RAW_FIELDS)
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        return {name: found.get(name) for name in RAW_FIELDS}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(describe(manifest, f"not a manifest ({error})", "a JSON object", "simulate again")) from error


def _check_shards(shards: Sequence[Shard], splits: Mapping[int, str], where: str | Path) -> None:
    if not shards:
        raise InputError(describe(where, "no shards", "at least one"))
    # By way of the class, so that shards from before an option was added have its default.
    found = [DataSelection(**shard.metadata["selection"]).as_dict() for shard in shards]
    selections = {json.dumps(selection, sort_keys=True) for selection in found}
    if len(selections) > 1:
        what = "its shards have different selections: " + " and ".join(sorted(selections))
        raise InputError(describe(where, what, "one", "prepare them again"))
    event_ids = [event["event_id"] for shard in shards for event in shard.events]
    event_id, times = Counter(event_ids).most_common(1)[0]
    if times > 1:
        raise InputError(describe(where, f"event {event_id} is in {times} shards", "each event once", "prepare again"))
    if set(splits) != set(range(len(event_ids))):
        what = f"splits for {len(splits)} events"
        raise InputError(describe(where, what, f"the {len(event_ids)} events of the shards", "prepare again"))


def _manifest(shards: Sequence[Shard], index: pd.DataFrame) -> dict[str, object]:
    digest = hashlib.sha256()
    for shard in shards:
        for event in shard.events:
            digest.update(f"{event['event_id']} {event['sha256']}\n".encode())
    versions = {"numpy": np.__version__, "pandas": pd.__version__, "pyarrow": pa.__version__}
    versions |= {"trackbench": trackbench.__version__, "python": platform.python_version()}
    selection = DataSelection(**shards[0].metadata["selection"])
    return {
        **{name: _common(shards, name) for name in RAW_FIELDS},
        "sigma_z_measured": _measured_sigma_z(shards),
        "selection": selection.as_dict(),
        "selection_label": selection.label(),
        **_index_facts(index),
        "versions": versions,
        "sha256": digest.hexdigest(),
    }


def _index_facts(index: pd.DataFrame) -> dict[str, object]:
    return {
        "n_events": len(index),
        "n_events_per_split": {name: int((index["split"] == name).sum()) for name in SPLITS},
        "n_hits_mean": float(index["n_hits"].mean()),
    }


def _common(shards: Sequence[Shard], name: str) -> object:
    """The value all shards share, else one value per shard (the pile-up scan)."""
    values = {shard.name: shard.metadata["raw"].get(name) for shard in shards}
    first = next(iter(values.values()))
    return first if all(value == first for value in values.values()) else values


def _measured_sigma_z(shards: Sequence[Shard]) -> float | None:
    """Spread of the primary vertices along the beam over all events [mm]; null below two vertices."""
    sums = np.array([event["vertex_z"] for shard in shards for event in shard.events], dtype=np.float64)
    n, total, squares = sums.sum(axis=0)
    return math.sqrt(max(squares - total**2 / n, 0.0) / (n - 1)) if n > 1 else None
