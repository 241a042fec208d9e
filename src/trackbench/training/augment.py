"""Exact symmetries of a detector around a solenoid, to vary training events: the result is another possible event.

In a field along z, a helix turned about z is a helix of the same charge and angle theta with phi turned as well. A
mirror at z = 0 leaves the transverse motion, thus charge and phi, as it is, and turns theta into pi - theta: the
field is an axial vector, whose component across the mirror stays. A mirror at a plane through the z axis would
reverse the field; in the unchanged field, the mirrored hits are those of the opposite charge. That the modules of a
real detector are not that symmetric matters to module numbers only, which no network here reads.
"""

from dataclasses import replace

import numpy as np

from trackbench.data.hits import Hits
from trackbench.data.truth import Truth
from trackbench.geometry.coordinates import wrap_angle

Event = tuple[Hits, Truth]


def rotated(event: Event, angle: float) -> Event:
    """Turn an event about the z axis: hits, vertices and momenta. angle: [rad], positive from x to y."""
    hits, truth = event
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = hits.xyz.T
    vx, vy = truth.particles["vx"], truth.particles["vy"]
    particles = truth.particles.assign(
        phi=wrap_angle(truth.particles["phi"].to_numpy() + angle),
        vx=cosine * vx - sine * vy,
        vy=sine * vx + cosine * vy,
    )
    xyz = np.column_stack((cosine * x - sine * y, sine * x + cosine * y, z))
    return replace(hits, xyz=xyz), replace(truth, particles=particles)


def flipped(event: Event) -> Event:
    """Mirror an event at the plane z = 0: theta becomes pi - theta; charge and phi stay."""
    hits, truth = event
    particles = truth.particles.assign(eta=-truth.particles["eta"], vz=-truth.particles["vz"])
    return replace(hits, xyz=hits.xyz * (1.0, 1.0, -1.0)), replace(truth, particles=particles)


def mirrored(event: Event) -> Event:
    """Mirror an event at the plane y = 0: phi becomes -phi and the charges change sign; theta stays."""
    hits, truth = event
    table = truth.particles
    particles = table.assign(phi=wrap_angle(-table["phi"].to_numpy()), vy=-table["vy"], q=-table["q"])
    return replace(hits, xyz=hits.xyz * (1.0, -1.0, 1.0)), replace(truth, particles=particles)


def augmented(event: Event, rng: np.random.Generator, rotate: bool, flip: bool, mirror: bool) -> Event:
    """Turn an event by a random angle and mirror it at each plane with probability 1/2, as far as asked for.

    rng draws three numbers whatever is asked for. Volume, layer and module numbers stay as they were.
    """
    turn, over_z, over_y = rng.random(3)
    if mirror and over_y < 0.5:
        event = mirrored(event)
    if flip and over_z < 0.5:
        event = flipped(event)
    return rotated(event, 2 * np.pi * turn) if rotate else event
