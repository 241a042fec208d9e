"""Hadronic interactions in the material, which Fatras lacks.

Without them tracks are too long and there are no secondaries: an unrealistically easy sample. Rates,
multiplicities and spectra are hand-tuned to the particle list of TrackML event 1000 (2597 children of
primaries at 1395 points), so agreement in these quantities is by construction.
"""

import numpy as np
import pandas as pd

from trackbench.data.particle_id import generation_number
from trackbench.simulation.fatras import SimulatedHits
from trackbench.simulation.generator import PT_MIN

P_BEFORE_FIRST_HIT = 0.025  # beam pipe and services before the first hit
P_PER_LAYER = 0.0158  # after each hit
BEAM_PIPE_R = 19.0  # [mm]
LEPTONS = (11, 13, 15)
# Probability of 0..5 charged children. Event 1000 shows 562, 537, 243, 41, 12 points with 1, 2, 3, 4, 5 children
# above pT 0.1 GeV; this is that distribution with the cut (acceptance 0.857) unfolded. Points without
# any visible child cannot be counted: 0.15 is a guess.
CHILD_NUMBER = (0.15, 0.27, 0.331, 0.201, 0.033, 0.015)
# Lognormal momentum: median [GeV] and sigma of the logarithm; 0.272 GeV is left as the median above the cut.
CHILD_P_MEDIAN, CHILD_P_SPREAD = 0.255, 0.48
# Species of the children: PDG number, probability, mass [GeV], charge [e].
CHILDREN = ((2212, 0.43, 0.93827, 1), (211, 0.29, 0.13957, 1), (-211, 0.28, 0.13957, -1))


def interact(hits: SimulatedHits, particles: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame]:
    """Stop some hadrons in the material and make their charged children.

    hits: hits of the first pass, sorted by particle and along the track
    particles: the particles the hits count rows of
    Returns (n_hits,) bool, True = hit before the interaction, and the table of children (same columns as
    ``particles``, generation one higher, pT > 0.1 GeV).
    """
    n = len(hits)
    if n == 0:
        return np.zeros(0, dtype=bool), particles.iloc[:0]
    start = np.flatnonzero(np.r_[True, np.diff(hits.particle) != 0])  # first hit of each track
    track = np.repeat(np.arange(len(start)), np.diff(np.r_[start, n]))
    parent = hits.particle[start]
    hadron = ~np.isin(np.abs(particles["particle_type"].to_numpy()[parent]), LEPTONS)
    early = (rng.random(len(start)) < P_BEFORE_FIRST_HIT) & hadron
    after = np.flatnonzero(rng.random(n) < P_PER_LAYER)
    last = np.full(len(start), n)  # last hit that a track keeps, n = all
    np.minimum.at(last, track[after], after)
    last[~hadron] = n
    last[early] = -1
    points = np.flatnonzero(last < n)
    place = hits.position[np.where(early, start, last)[points]]
    origin = particles[["vx", "vy", "vz"]].to_numpy(np.float64)[parent[points]]
    place = _move_to_beam_pipe(place, origin, early[points])
    return np.arange(n) <= last[track], _children(place, particles.iloc[parent[points]], rng)


def _move_to_beam_pipe(place: np.ndarray, origin: np.ndarray, early: np.ndarray) -> np.ndarray:
    """Move interactions before the first hit back along the line to the vertex, to the beam pipe radius."""
    r = np.hypot(place[:, 0], place[:, 1])
    fraction = np.where(early & (r > BEAM_PIPE_R), BEAM_PIPE_R / np.maximum(r, BEAM_PIPE_R), 1.0)
    return origin + (place - origin) * fraction[:, None]


def _children(place: np.ndarray, parents: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the charged children of interactions. place: (k, 3) [mm], parents: (k rows)."""
    number = rng.choice(len(CHILD_NUMBER), len(place), p=CHILD_NUMBER)
    point = np.repeat(np.arange(len(place)), number)
    n = len(point)
    momentum = CHILD_P_MEDIAN * np.exp(rng.normal(0.0, CHILD_P_SPREAD, n))
    cosine, azimuth = rng.uniform(-1.0, 1.0, n), rng.uniform(0.0, 2 * np.pi, n)
    species = rng.choice(len(CHILDREN), n, p=[child[1] for child in CHILDREN])
    pdg, _, mass, charge = (np.array(column)[species] for column in zip(*CHILDREN, strict=True))
    sine = np.sqrt(1.0 - cosine**2)
    parent_id = parents["particle_id"].to_numpy(np.int64)[point]
    generation = generation_number(parent_id) + 1
    # Numbered over all parents that stem from one primary: two of them may interact.
    which = pd.Series(parent_id >> 36).groupby(parent_id >> 36).cumcount().to_numpy() + 1
    children = pd.DataFrame(
        {
            "particle_id": (parent_id & ~np.int64(0xFFFFFFFFF)) | (generation << 24) | (which << 12),
            "particle_type": pdg.astype(np.int64),
            **{name: place[point, i] for i, name in enumerate(("vx", "vy", "vz"))},
            "vt": np.zeros(n),
            "px": momentum * sine * np.cos(azimuth),
            "py": momentum * sine * np.sin(azimuth),
            "pz": momentum * cosine,
            "m": mass.astype(np.float64),
            "q": charge.astype(np.int64),
        }
    )
    return children[np.hypot(children["px"], children["py"]) > PT_MIN].reset_index(drop=True)
