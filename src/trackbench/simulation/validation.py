"""Compare simulated events with the little that is public of the real TrackML data.

References: the full particle list of TrackML event 1000 (published with HSF/phoenix) and a thinned real
event of 5527 hits (hit and noise shares only). Two events: agreement within 15 % is all that can be
asked of the counts. Some quantities agree by construction, because the simulation was tuned on them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.data.particle_id import generation_number, vertex_number
from trackbench.data.reader import list_events, read_event
from trackbench.errors import InputError, describe
from trackbench.geometry.detector import VOLUMES

EVENT_1000, SAMPLE = "TrackML event 1000", "thinned TrackML event"
REFERENCE_SETTINGS = {"pileup": 200.0, "sigma_z": 5.5, "hard_process": "ttbar"}


@dataclass(frozen=True)
class Reference:
    """What is known of a quantity in real data.

    value: in the unit ``unit``; source: the event it comes from
    by_construction: the simulation was tuned to it
    applies: settings that must have their reference value, of ``REFERENCE_SETTINGS``
    """

    value: float
    unit: str
    source: str = EVENT_1000
    by_construction: bool = False
    applies: tuple[str, ...] = ("pileup", "hard_process")


_TUNED = {"by_construction": True}
REFERENCES: dict[str, Reference] = {
    "particles": Reference(12263, "per event"),
    "particles with hits": Reference(10565, "per event"),
    "primaries": Reference(9431, "per event"),
    "secondaries": Reference(2832, "per event", **_TUNED),
    "interaction points": Reference(1395, "per event", **_TUNED),
    "primaries made at r > 1 mm": Reference(863, "per event"),
    "populated vertices": Reference(159, "per event"),
    "true hits": Reference(103305, "per event"),
    "particles pT > 0.9": Reference(1691, "per event"),
    "particles pT > 0.9, >= 3 hits": Reference(1576, "per event"),
    "same, |eta| < 1.5": Reference(704, "per event"),
    "same, |eta| >= 1.5": Reference(872, "per event"),
    "hits per primary": Reference(9.89, "hits", applies=(), **_TUNED),
    "hits per secondary": Reference(3.53, "hits", applies=(), **_TUNED),
    "median pT": Reference(0.360, "GeV"),
    "90 % quantile of pT": Reference(1.079, "GeV"),
    "median p of secondaries": Reference(0.272, "GeV", applies=(), **_TUNED),
    "vertex spread in z": Reference(6.0, "mm", applies=("pileup", "sigma_z"), **_TUNED),
    "noise share": Reference(0.150, "of hits", SAMPLE, applies=(), **_TUNED),
}
_HIT_SHARES = (0.132, 0.242, 0.130, 0.068, 0.229, 0.063, 0.026, 0.084, 0.027)
_NOISE_SHARES = (0.051, 0.061, 0.046, 0.144, 0.194, 0.141, 0.168, 0.576, 0.252)
_SHARE_VOLUMES = tuple(sorted(VOLUMES))
for _volume, _hits, _noise in zip(_SHARE_VOLUMES, _HIT_SHARES, _NOISE_SHARES, strict=True):
    REFERENCES[f"hit share of volume {_volume}"] = Reference(_hits, "of hits", SAMPLE, applies=())
    noise = Reference(_noise, "of hits there", SAMPLE, by_construction=True, applies=())
    REFERENCES[f"noise share in volume {_volume}"] = noise

SUMMARY_COLUMNS = ("quantity", "unit", "mean", "spread", "n_events", "reference", "ratio", "by_construction", "source")
DISTRIBUTION_COLUMNS = ("distribution", "lo", "hi", "mean", "spread", "n_events")
_EDGES = {
    "pt": np.geomspace(0.1, 20.0, 31),
    "eta": np.linspace(-4.0, 4.0, 33),
    "hits of primaries": np.arange(-0.5, 21.5),
    "hits of secondaries": np.arange(-0.5, 21.5),
}


def summarise(event_dir: str | Path, event_ids: Iterable[int] | None = None) -> pd.DataFrame:
    """Compare the mean of simulated events with the reference, quantity by quantity.

    event_dir: folder of events, shards below it included; event_ids: which of them, default all
    Returns one row per quantity, columns ``SUMMARY_COLUMNS``: mean and standard deviation over events
    (NaN for a single event), reference and mean / reference. These two are NaN where the settings in the
    manifest are not the reference's (pile-up 200, sigma_z 5.5 mm), and for quantities without hits.
    Raises InputError if an event is missing.
    """
    prefixes = _prefixes(event_dir, event_ids)
    values = pd.DataFrame([event_quantities(*tables) for tables in _read(prefixes)])
    settings = _settings(prefixes[0])
    rows = []
    for name, reference in REFERENCES.items():
        mean, spread = values[name].mean(), values[name].std()
        real = reference.value if _applies(reference, settings) else np.nan
        origin = (reference.by_construction, reference.source)
        rows.append((name, reference.unit, mean, spread, len(values), real, mean / real, *origin))
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def distributions(event_dir: str | Path, event_ids: Iterable[int] | None = None) -> pd.DataFrame:
    """Histogram particles of simulated events: transverse momentum, eta, hits.

    Arguments and errors as ``summarise``. Returns one row per bin, columns ``DISTRIBUTION_COLUMNS``: mean
    and standard deviation over events of the number of particles; what is outside the bins is left out.
    """
    counts = [event_histograms(particles) for _, _, particles in _read(_prefixes(event_dir, event_ids))]
    rows = []
    for name, edges in _EDGES.items():
        stack = np.array([event[name] for event in counts], dtype=np.float64)  # (n_events, n_bins)
        spread = stack.std(axis=0, ddof=1) if len(stack) > 1 else np.full(stack.shape[1], np.nan)
        columns = (edges[:-1], edges[1:], stack.mean(axis=0), spread)
        rows += [(name, *bin_values, len(stack)) for bin_values in zip(*columns, strict=True)]
    return pd.DataFrame(rows, columns=DISTRIBUTION_COLUMNS)


def event_quantities(hits: pd.DataFrame, truth: pd.DataFrame, particles: pd.DataFrame) -> dict[str, float]:
    """Compute the quantities of ``REFERENCES`` for one event; NaN where nothing is there to average."""
    pt, eta = _pt_eta(particles)
    n_hits = particles["nhits"].to_numpy()
    generation = generation_number(particles["particle_id"])
    primary = generation == 0
    place = particles[["vx", "vy", "vz"]].to_numpy(np.float64)
    displaced = np.hypot(place[:, 0], place[:, 1]) > 1.0
    high = (pt > 0.9) & (np.abs(eta) < 4)
    long = high & (n_hits >= 3)
    noise = truth["particle_id"].to_numpy() == 0
    momentum = pt * np.cosh(eta)
    z = _vertex_z(particles[primary & ~displaced])
    values = {
        "particles": len(particles),
        "particles with hits": (n_hits > 0).sum(),
        "primaries": primary.sum(),
        "secondaries": (~primary).sum(),
        "interaction points": len(np.unique(place[generation == 1], axis=0)),
        "primaries made at r > 1 mm": (primary & displaced).sum(),
        "populated vertices": len(z),
        "true hits": (~noise).sum(),
        "particles pT > 0.9": high.sum(),
        "particles pT > 0.9, >= 3 hits": long.sum(),
        "same, |eta| < 1.5": (long & (np.abs(eta) < 1.5)).sum(),
        "same, |eta| >= 1.5": (long & (np.abs(eta) >= 1.5)).sum(),
        "hits per primary": _mean(n_hits[primary]),
        "hits per secondary": _mean(n_hits[~primary]),
        "median pT": _quantile(pt, 0.5),
        "90 % quantile of pT": _quantile(pt, 0.9),
        "median p of secondaries": _quantile(momentum[~primary], 0.5),
        "vertex spread in z": z.std(ddof=1) if len(z) > 1 else np.nan,
        "noise share": _mean(noise),
    }
    volume = hits["volume_id"].to_numpy()
    for number in _SHARE_VOLUMES:
        values[f"hit share of volume {number}"] = _mean(volume == number)
        values[f"noise share in volume {number}"] = _mean(noise[volume == number])
    return {name: float(value) for name, value in values.items()}


def event_histograms(particles: pd.DataFrame) -> dict[str, np.ndarray]:
    """Count the particles of one event in the bins of each distribution."""
    pt, eta = _pt_eta(particles)
    n_hits = particles["nhits"].to_numpy()
    primary = generation_number(particles["particle_id"]) == 0
    samples = {
        "pt": pt,
        "eta": eta,
        "hits of primaries": n_hits[primary],
        "hits of secondaries": n_hits[~primary],
    }
    return {name: np.histogram(samples[name], edges)[0] for name, edges in _EDGES.items()}


def _prefixes(event_dir: str | Path, event_ids: Iterable[int] | None) -> list[str]:
    found = dict(list_events(event_dir))
    wanted = list(found) if event_ids is None else list(event_ids)
    missing = [event_id for event_id in wanted if event_id not in found]
    if missing or not wanted:
        what = f"no event {missing[0]}" if missing else "no event asked for"
        raise InputError(describe(event_dir, what, f"some of {len(found)} events"))
    return [found[event_id] for event_id in wanted]


def _read(prefixes: list[str]) -> Iterator[tuple[pd.DataFrame, ...]]:
    for prefix in prefixes:
        yield read_event(prefix, parts=("hits", "truth", "particles"))


def _settings(prefix: str) -> dict:
    """Settings in the manifest beside an event; real data has none."""
    path = Path(prefix).parent / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _applies(reference: Reference, settings: dict) -> bool:
    expected = {name: REFERENCE_SETTINGS[name] for name in reference.applies}
    return all(settings.get(name, value) == value for name, value in expected.items())


def _pt_eta(particles: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    px, py, pz = (particles[name].to_numpy(np.float64) for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    return pt, np.arcsinh(pz / pt)


def _vertex_z(primaries: pd.DataFrame) -> np.ndarray:
    """Median z of the prompt particles of each vertex [mm]."""
    if len(primaries) == 0:
        return np.zeros(0)
    return primaries.groupby(vertex_number(primaries["particle_id"]))["vz"].median().to_numpy(np.float64)


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan


def _quantile(values: np.ndarray, fraction: float) -> float:
    return np.quantile(values, fraction) if len(values) else np.nan
