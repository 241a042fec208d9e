"""Exact symmetries of a detector around a solenoid, to vary training events: the result is another possible event.

In a field along z, a helix turned about z is a helix of the same charge and angle theta with phi turned as well. A
mirror at z = 0 leaves the transverse motion, thus charge and phi, as it is, and turns theta into pi - theta: the
field is an axial vector, whose component across the mirror stays. A mirror at a plane through the z axis would
reverse the field; in the unchanged field, the mirrored hits are those of the opposite charge. That the modules of a
real detector are not that symmetric matters to module numbers only, which no network here reads.
"""

from typing import NamedTuple

import numpy as np

from trackbench.geometry.coordinates import wrap_angle
from trackbench.training.targets import Momenta


class Symmetry(NamedTuple):
    """Mirrors, and after them a turn.

    angle: of the turn about z [rad], from x to y; flip: mirror at z = 0; mirror: at y = 0, charges reversed
    """

    angle: float = 0.0
    flip: bool = False
    mirror: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator, rotate: bool, flip: bool, mirror: bool) -> "Symmetry":
        """Draw a turn by any angle and each mirror with probability 1/2, as far as asked for.

        Takes three numbers of ``rng`` whatever is asked for.
        """
        turn, over_z, over_y = rng.random(3).tolist()
        return cls(2 * np.pi * turn if rotate else 0.0, flip and over_z < 0.5, mirror and over_y < 0.5)

    @classmethod
    def of_training(cls, rng: np.random.Generator | None, loss) -> "Symmetry":
        """``draw`` what a loss configuration asks for (rotate, flip, mirror); nothing is moved without ``rng``."""
        return cls() if rng is None else cls.draw(rng, loss.rotate, loss.flip, loss.mirror)

    def positions(self, xyz: np.ndarray) -> np.ndarray:
        """Move hits or vertices. xyz: (n, 3). Returns (n, 3)."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        y = -1.0 if self.mirror else 1.0
        # Rows: where the unit vectors along x, y and z go.
        return xyz @ np.array([[cosine, sine, 0.0], [-y * sine, y * cosine, 0.0], [0.0, 0.0, -1.0 if self.flip else 1]])

    def momenta(self, momenta: Momenta) -> Momenta:
        """Momenta and charges that leave the moved hits."""
        y = -1 if self.mirror else 1
        eta = -momenta.eta if self.flip else momenta.eta
        return momenta._replace(eta=eta, phi=wrap_angle(y * momenta.phi + self.angle), q=y * momenta.q)
