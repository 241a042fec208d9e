"""Events of a prepared sample for training: batch by batch from the shards, in an order that depends on nothing else.

The batches of an epoch are a pure function of the index, the seed and the epoch, composed without reading any event.
So any batch can be asked for at any time, and a resumed training gets the batches it would have had.
"""

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.shard_file import PREPARE_AGAIN, Shard
from trackbench.data.shards import read_index
from trackbench.data.splits import SPLITS
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe

logger = logging.getLogger(__name__)

Event = tuple[Hits, Truth]

# Batches among which events are sorted by length: enough for little padding, few enough to mix events well.
POOL = 8
_STAGE = 21  # keeps the random numbers of the order apart from others made of the same seed


@dataclass(frozen=True)
class _Epoch:
    """The plan of one epoch: batches (arrays of index rows), the group of shards each is from, shards per group."""

    batches: list[np.ndarray]
    group: list[int]
    shards: list[np.ndarray]


class EventStream:
    """Batches of (Hits, Truth) of one split.

    index_csv: index of the sample, beside its shards; split: "train", "val" or "test"
    batch_size: largest number of events per batch; those of one epoch differ by few events, so that none is tiny
    seed: of the order; shard_buffer: shards whose events are mixed, and held in memory, at a time
    length: most hits an event may have, the padded length of the sample; None = any number
    Events without hits, such as those of no collision at low pile-up, are left out, which is said once.
    Raises InputError for a split without other events or with a longer one; ConfigError for a wrong option.
    """

    def __init__(
        self,
        index_csv: str | Path,
        split: str,
        batch_size: int,
        seed: int = 0,
        shard_buffer: int = 4,
        length: int | None = None,
    ):
        if split not in SPLITS:
            raise ConfigError(describe("split", f"value {split!r}", "one of " + ", ".join(SPLITS)))
        for name, value in (("batch_size", batch_size), ("shard_buffer", shard_buffer)):
            if value < 1:
                raise ConfigError(describe(f"training.{name}", f"value {value}", ">= 1"))
        self.folder = Path(index_csv).parent
        self.split, self.batch_size, self.seed, self.shard_buffer = split, batch_size, seed, shard_buffer
        index = read_index(index_csv)
        index = index[index["split"] == split]
        self._index = index[index["n_hits"] > 0].reset_index(drop=True)
        if self._index.empty:
            what = f"no event{' with hits' if len(index) else ''} in split '{split}'"
            raise InputError(describe(index_csv, what, "at least one", "prepare more events"))
        if len(self._index) < len(index):
            logger.info("%d of %d events in split '%s' have no hits", len(index) - len(self._index), len(index), split)
        shard, names = pd.factorize(self._index["shard"])
        self._shards = [str(name) for name in names]  # in the order of the index
        self._rows = [np.flatnonzero(shard == k) for k in range(len(names))]  # index rows of each shard
        self._n_hits = self._index["n_hits"].to_numpy()
        self._require_length(index_csv, length)
        self._starts = [0]  # first step of each epoch known so far
        self._plan: tuple[int, _Epoch | None] = (-1, None)
        self._group: tuple[object, dict[int, Event]] = (None, {})

    def _require_length(self, index_csv: str | Path, length: int | None) -> None:
        longer = np.flatnonzero(self._n_hits > length) if length is not None else []
        if len(longer):
            event, n = self._index["event_id"][longer[0]], self._n_hits[longer[0]]
            what = f"{n} hits, the first of {len(longer)} events in split '{self.split}' that are too long"
            remedy = "raise the length of the set in subevents.sets and prepare it again"
            raise InputError(describe(f"{index_csv}: event {event}", what, f"at most {length}", remedy))

    @property
    def n_events(self) -> int:
        """Events of the split."""
        return len(self._index)

    @property
    def digest(self) -> str:
        """SHA-256 of which events the split has and where they lie."""
        text = self._index[["event_id", "shard"]].to_csv(index=False, lineterminator="\n")
        return hashlib.sha256(text.encode()).hexdigest()

    def epoch(self, step: int) -> int:
        """Epoch, from 0, of the batch of step ``step``, from 0."""
        while self._starts[-1] <= step:
            epoch = len(self._starts) - 1
            sizes = (sum(len(self._rows[k]) for k in group) for group in self._groups(self._rng(epoch)))
            self._starts.append(self._starts[-1] + sum(math.ceil(size / self.batch_size) for size in sizes))
        return int(np.searchsorted(self._starts, step, side="right")) - 1

    def batch(self, step: int) -> list[Event]:
        """Events of training step ``step``, from 0. Each event comes once per epoch.

        Steps may be asked for in any order; in ascending order each shard is read once per epoch.
        Raises InputError if a shard is missing, damaged or lacks an event of the index.
        """
        epoch = self.epoch(step)
        if self._plan[0] != epoch:
            self._plan = (epoch, self._compose(epoch))
        plan, place = self._plan[1], step - self._starts[epoch]
        shards = plan.shards[plan.group[place]]
        key = tuple(sorted(shards.tolist()))
        if self._group[0] != key:
            self._group = (None, {})  # free the old events before reading the new ones
            self._group = (key, {row: event for k in key for row, event in self._read(self._rows[k])})
        return [self._group[1][row] for row in plan.batches[place].tolist()]

    def ordered(self) -> Iterator[list[Event]]:
        """All events of the split in batches, in the order of the index, for validation."""
        waiting: list[Event] = []
        for event in self.events():
            waiting.append(event)
            if len(waiting) == self.batch_size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def events(self) -> Iterator[Event]:
        """All events of the split one by one, shard by shard in the order of the index."""
        for rows in self._rows:
            yield from (event for _, event in self._read(rows))

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, _STAGE, epoch])

    def _groups(self, rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(len(self._shards))
        return [order[start : start + self.shard_buffer] for start in range(0, len(order), self.shard_buffer)]

    def _compose(self, epoch: int) -> _Epoch:
        rng = self._rng(epoch)
        groups = self._groups(rng)
        plan = _Epoch([], [], groups)
        for number, shards in enumerate(groups):
            rows = rng.permutation(np.concatenate([self._rows[k] for k in shards]))
            batches = self._similar(np.array_split(rows, math.ceil(len(rows) / self.batch_size)))
            plan.batches.extend(batches[k] for k in rng.permutation(len(batches)))
            plan.group.extend([number] * len(batches))
        return plan

    def _similar(self, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Exchange events among ``POOL`` batches so that each holds events of similar length; sizes stay."""
        result = []
        for start in range(0, len(batches), POOL):
            sizes = [len(batch) for batch in batches[start : start + POOL]]
            pool = np.concatenate(batches[start : start + POOL])
            pool = pool[np.argsort(self._n_hits[pool], kind="stable")]
            result.extend(np.split(pool, np.cumsum(sizes)[:-1]))
        return result

    def _read(self, rows: np.ndarray) -> list[tuple[int, Event]]:
        """Read events of one shard. rows: their index rows. Returns (index row, event) in this order."""
        shard = Shard(self.folder / f"shard-{self._index['shard'][rows[0]]}-hits.parquet")
        places = {event["event_id"]: place for place, event in enumerate(shard.events)}
        event_ids = self._index["event_id"].to_numpy()[rows].tolist()
        missing = [event_id for event_id in event_ids if event_id not in places]
        if missing:
            what = f"no event {missing[0]}"
            raise InputError(describe(shard.path, what, "the events of the index", PREPARE_AGAIN))
        return list(zip(rows.tolist(), shard.read_many([places[i] for i in event_ids]), strict=True))
