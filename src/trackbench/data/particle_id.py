"""The TrackML particle_id: five numbers packed in one int64.

Layout, from the high bits: vertex (12), primary (16), generation (12), secondary (12), process (12).
Deduced from the particle list of TrackML event 1000; 0 is noise.
"""

import numpy as np


def pack_particle_id(
    vertex: np.ndarray, primary: np.ndarray, generation: np.ndarray, secondary: np.ndarray
) -> np.ndarray:
    """Pack the parts of a particle_id; the process bits stay 0.

    vertex: 1..2047 (1 = hard interaction; 2047 keeps the sign bit clear), primary: 1..65535 within the vertex,
    generation: 0 = primary, secondary: 0..4095; all (n,) int
    Returns (n,) int64, > 0.
    """
    parts = [np.asarray(part, dtype=np.int64) for part in (vertex, primary, generation, secondary)]
    return (parts[0] << 52) | (parts[1] << 36) | (parts[2] << 24) | (parts[3] << 12)


def vertex_number(particle_id: np.ndarray) -> np.ndarray:
    """Return the number of the primary vertex, 1 = hard interaction; 0 for noise. (n,) int64."""
    return np.asarray(particle_id, dtype=np.int64) >> 52


def generation_number(particle_id: np.ndarray) -> np.ndarray:
    """Return the generation: 0 = primary (and noise), > 0 = made in the detector material. (n,) int64."""
    return (np.asarray(particle_id, dtype=np.int64) >> 24) & 0xFFF
