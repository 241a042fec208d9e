"""Simulated events of a particle gun: Fatras with material, interactions, noise and cells, but without a generator.

Needs the package acts, not pythia8mc.
"""

from functools import cache

import numpy as np
import pandas as pd

from trackbench.data.particle_id import pack_particle_id
from trackbench.data.prepare import DataSelection, build_event
from trackbench.geometry.acts_detector import build_detector
from trackbench.simulation.config import SimulationConfig
from trackbench.simulation.digitisation import Modules
from trackbench.simulation.simulate import Simulator

N_VERTICES, PION, PION_MASS = 4, 211, 0.13957


class Gun:
    """Pions from a few collisions, flat in azimuth and pseudorapidity. n_tracks: per event."""

    def __init__(self, n_tracks):
        self.n_tracks = n_tracks

    def generate(self, event_id):
        rng = np.random.default_rng([97, event_id])
        n = self.n_tracks
        pt, eta, phi = 0.4 / rng.uniform(0.05, 1.0, n), rng.uniform(-3.9, 3.9, n), rng.uniform(-np.pi, np.pi, n)
        charge, vertex = rng.choice([-1, 1], n), np.sort(rng.integers(N_VERTICES, size=n))
        zero, number = np.zeros(n, dtype=np.int64), np.arange(1, n + 1)
        columns = {"particle_id": pack_particle_id(vertex + 1, number, zero, zero), "particle_type": PION * charge}
        columns |= {
            "vx": np.zeros(n),
            "vy": np.zeros(n),
            "vz": rng.normal(0, 5.5, N_VERTICES)[vertex],
            "vt": np.zeros(n),
        }
        columns |= {
            "px": pt * np.cos(phi),
            "py": pt * np.sin(phi),
            "pz": pt * np.sinh(eta),
            "m": PION_MASS,
            "q": charge,
        }
        return pd.DataFrame(columns)


class GunSimulator(Simulator):
    """``Simulator`` with a gun for a generator."""

    def __init__(self, n_tracks):
        self.config = SimulationConfig(pileup=0, seed=3)
        self.generator = Gun(n_tracks)
        self.modules = Modules(build_detector())


@cache
def gun_tables(event_id, n_tracks=120):
    """Raw tables of an event, ``EventTables``; the same for the same arguments."""
    return GunSimulator(n_tracks).event(event_id)


@cache
def gun_event(event_id, detector="pixel", n_tracks=120):
    """(Hits, Truth) of an event. detector: "pixel" or "full"."""
    tables = gun_tables(event_id, n_tracks)
    return build_event((tables.hits, tables.particles, tables.truth), DataSelection(detector), event_id)


def reconstructed(settings, events):
    """Tracks of each event by one tracker ``ckf``; for worker processes. events: hits."""
    from trackbench.trackers.base import build_tracker

    tracker = build_tracker("ckf", settings, seed=0)
    return [tracker.reconstruct_tracks(hits) for hits in events]
