"""From the raw tables of an event to ``Hits`` and ``Truth``.

Cuts on particles (pT, eta, layers) define what a metric asks for and are applied there; they never
remove a hit here. The one exception, ``truth_filter``, exists to compare with HEPTv2.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from trackbench.data.cell_features import cell_features
from trackbench.data.hits import CELL_FEATURES, Hits
from trackbench.data.particle_id import generation_number, vertex_number
from trackbench.data.truth import PARTICLE_COLUMNS, Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.geometry.coordinates import pseudorapidity
from trackbench.geometry.detector import ALL_LAYERS, is_pixel, layer_index

RAW_PARTS = ("hits", "particles", "truth")
DETECTORS = ("pixel", "full")
TRUTH_FILTER_ETA = 4.0
_PROMPT_RADIUS = 0.1  # [mm]; the beam spot has 0.015 mm
_LAYER_IDS = 32  # layer_id is below this


@dataclass(frozen=True)
class DataSelection:
    """Which hits of an event are kept: the hit collection that every metric is counted in.

    detector: "pixel" (volumes 7, 8, 9) or "full"
    hit_eta_max: keep hits with |eta| of the hit position up to this; None keeps all
    truth_filter: remove noise and the hits of particles with |eta| > 4 by truth, as the published
        HEPTv2 data are; a tracker then sees what no detector can give, so tables must say it
    cells: give each hit the features of its cells, ``Hits.features`` of the names ``CELL_FEATURES`` (see
        ``data.cell_features``); every raw event then needs a cells file, so simulated ones ``simulate.cells: true``.
        The collection of hits stays the same.
    Raises ConfigError for a value outside these.
    """

    detector: str = "pixel"
    hit_eta_max: float | None = None
    truth_filter: bool = False
    cells: bool = False

    def __post_init__(self):
        if self.detector not in DETECTORS:
            raise ConfigError(describe("data.detector", f"value {self.detector!r}", " or ".join(DETECTORS)))
        for name in ("truth_filter", "cells"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(describe(f"data.{name}", f"value {getattr(self, name)!r}", "true or false"))
        limit = self.hit_eta_max
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if limit is not None and not (is_number and limit > 0):
            raise ConfigError(describe("data.hit_eta_max", f"value {limit!r}", "a number > 0 or nothing"))

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of a raw event that ``build_event`` needs, in the order it takes them."""
        return (*RAW_PARTS, "cells") if self.cells else RAW_PARTS

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the hits have."""
        return CELL_FEATURES if self.cells else ()

    def label(self) -> str:
        """Return the selection in words, for captions: ``"pixel hits, noise kept"``."""
        parts = [f"{self.detector} hits" if self.detector == "pixel" else "hits of the full detector"]
        if self.hit_eta_max is not None:
            parts.append(f"hit |eta| <= {self.hit_eta_max:g}")
        if self.truth_filter:
            parts.append(f"noise and particles with |eta| > {TRUTH_FILTER_ETA:g} REMOVED BY TRUTH (HEPTv2 mode)")
        else:
            parts.append("noise kept")
        return ", ".join(parts)

    def as_dict(self) -> dict:
        """Return the fields as plain values, for manifests."""
        return asdict(self)


def build_hits(
    hits: pd.DataFrame, selection: DataSelection, event_id: int = 0, cells: pd.DataFrame | None = None
) -> Hits:
    """Build the hits of an event without truth, for reconstruction only.

    hits: raw table of the hits; cells: that of the cells, if the selection asks for them
    Returns the kept hits in file order. Raises ConfigError if the selection needs truth, InputError if it needs
    cells and they are not there or do not belong to the hits.
    """
    if selection.truth_filter:
        raise ConfigError(describe("data.truth_filter", "needs truth", "false", "or give the truth file"))
    return _take_hits(hits, cells, _hit_mask(hits, selection), selection, event_id)


def build_event(frames: tuple[pd.DataFrame, ...], selection: DataSelection, event_id: int = 0) -> tuple[Hits, Truth]:
    """Build hits and truth of an event.

    frames: raw tables (hits, particles, truth) and, if the selection asks for them, cells, checked as by
        ``read_event(prefix, selection.parts)``; truth and cells may be in another order than the hits
    Returns the kept hits in file order and their truth. Particle counts are over the kept hits, except
    ``n_hits_all``; particles that keep no hit stay in the table.
    Raises InputError if the selection asks for cells and they are not there or do not belong to the hits.
    """
    raw, particles, truth = frames[:3]
    cells = frames[3] if len(frames) > 3 else None
    truth = _in_order_of(raw, truth)
    table = _particle_table(particles)
    row = np.searchsorted(table["particle_id"].to_numpy(), truth["particle_id"].to_numpy())
    is_true = truth["particle_id"].to_numpy() > 0
    row = np.where(is_true, row, -1)
    mask = _hit_mask(raw, selection)
    if selection.truth_filter:
        inside = np.abs(table["eta"].to_numpy()) <= TRUTH_FILTER_ETA
        mask &= is_true & np.append(inside, False)[row]
    _add_counts(table, raw, row, mask)
    hits = _take_hits(raw, cells, mask, selection, event_id)
    kept = truth[mask]
    ids = kept["particle_id"].to_numpy(np.int64)
    return hits, Truth(hits.hit_id, ids, kept["weight"].to_numpy(np.float64), table, event_id)


def vertex_positions(particles: pd.DataFrame) -> np.ndarray:
    """Positions along the beam of the primary vertices that left a prompt charged particle.

    particles: ``Truth.particles`` of one event
    Returns (n_vertices,) float, median vz [mm] of the generation-0 particles made within 0.1 mm of the
    beam, per vertex number of particle_id.
    """
    prompt = (particles["generation"] == 0) & (np.hypot(particles["vx"], particles["vy"]) < _PROMPT_RADIUS)
    chosen = particles[prompt]
    return chosen.groupby(vertex_number(chosen["particle_id"].to_numpy()))["vz"].median().to_numpy(np.float64)


def _take_hits(
    hits: pd.DataFrame, cells: pd.DataFrame | None, mask: np.ndarray, selection: DataSelection, event_id: int
) -> Hits:
    """Hits where ``mask`` (n,) is true, with the features of their cells if asked for."""
    if not selection.cells:
        return Hits.from_frame(hits[mask], event_id)
    if cells is None:
        what, remedy = "the cells are not given", "read them, or set data.cells to false"
        raise InputError(describe(f"event {event_id}", what, "cells of the hits, as data.cells is true", remedy))
    frame = hits.assign(**cell_features(hits, cells, f"cells of event {event_id}"))
    return Hits.from_frame(frame[mask], event_id, CELL_FEATURES)


def _hit_mask(hits: pd.DataFrame, selection: DataSelection) -> np.ndarray:
    mask = np.ones(len(hits), dtype=bool)
    if selection.detector == "pixel":
        mask &= is_pixel(hits["volume_id"].to_numpy())
    if selection.hit_eta_max is not None:
        mask &= np.abs(pseudorapidity(hits[["x", "y", "z"]].to_numpy(np.float64))) <= selection.hit_eta_max
    return mask


def _in_order_of(hits: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Join by hit_id, never by position: nothing promises that the files have the same order."""
    if np.array_equal(hits["hit_id"].to_numpy(), truth["hit_id"].to_numpy()):
        return truth
    return truth.set_index("hit_id").loc[hits["hit_id"]].reset_index()


def _particle_table(particles: pd.DataFrame) -> pd.DataFrame:
    """Columns of ``Truth.particles`` that do not depend on hits; counts are 0."""
    ordered = particles.sort_values("particle_id", kind="stable", ignore_index=True)
    momentum = ordered[["px", "py", "pz"]].to_numpy(np.float64)
    ids = ordered["particle_id"].to_numpy(np.int64)
    columns = {
        "particle_id": ids,
        "pt": np.hypot(momentum[:, 0], momentum[:, 1]),
        "eta": pseudorapidity(momentum),
        "phi": np.arctan2(momentum[:, 1], momentum[:, 0]),
        **{name: ordered[name].to_numpy(np.float64) for name in ("vx", "vy", "vz")},
        "q": ordered["q"].to_numpy(np.int64),
        **dict.fromkeys(("n_hits", "n_layers", "n_layer_ids", "n_hits_all"), np.zeros(len(ids), np.int64)),
        "generation": generation_number(ids),
    }
    return pd.DataFrame(columns)[list(PARTICLE_COLUMNS)]


def _add_counts(table: pd.DataFrame, hits: pd.DataFrame, row: np.ndarray, mask: np.ndarray) -> None:
    """Fill the count columns. row: (n,) row of each hit's particle, -1 = noise; mask: (n,) hits kept."""
    table["n_hits_all"] = np.bincount(row[row >= 0], minlength=len(table))
    mask = mask & (row >= 0)
    particle, volume, layer = row[mask], hits["volume_id"].to_numpy()[mask], hits["layer_id"].to_numpy()[mask]
    table["n_hits"] = np.bincount(particle, minlength=len(table))
    for name, index, size in (
        ("n_layers", layer_index(volume, layer), len(ALL_LAYERS)),
        ("n_layer_ids", layer, _LAYER_IDS),
    ):
        touched = np.zeros((len(table), size), dtype=bool)
        touched[particle, index] = True
        table[name] = touched.sum(axis=1)
