"""Settings of the simulation, checked when they are made."""

import math
from dataclasses import dataclass

from trackbench.errors import ConfigError, describe

HARD_PROCESSES = ("ttbar", "tthbb", "none")
FORMATS = ("parquet", "csv", "csv.gz")
MAX_PILEUP = 1500  # the vertex number has 11 usable bits in particle_id
MAX_FIELD = 10.0  # [T]
MAX_MISALIGNMENT = 1.0  # [mm]


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate. Same config, seed and event id give the same bytes, on any shard.

    pileup: mean number of soft collisions beside the hard one (Poisson), 0..1500
    hard_process: "ttbar", "tthbb" (ttH with H to b bbar) or "none"
    sigma_z: spread of the vertices along the beam [mm], >= 0
    hit_efficiency: probability that a true hit is recorded, 0 < p <= 1
    noise_fraction: noise hits / all hits, 0 <= f < 1
    field: solenoid field along +z in which particles are propagated [T], 0 < B <= 10; trackers assume 2 T
    misalignment: each module measures its hits displaced by one random vector in its plane, normal with this
        width along u and v [mm], 0..1; drawn by the seed, so the same for every event
    cells: also write the cells of each hit
    format: "parquet" (float32), "csv" or "csv.gz" (6 significant digits)
    seed: seed of everything random, >= 0
    """

    pileup: float = 200.0
    hard_process: str = "ttbar"
    sigma_z: float = 5.5
    hit_efficiency: float = 0.98
    noise_fraction: float = 0.15
    field: float = 2.0  # geometry.detector.FIELD_T, which would load numpy
    misalignment: float = 0.0
    cells: bool = False
    format: str = "parquet"
    seed: int = 20

    def __post_init__(self):
        _check_choice("hard_process", self.hard_process, HARD_PROCESSES)
        _check_choice("format", self.format, FORMATS)
        if not isinstance(self.cells, bool):
            raise ConfigError(describe("simulation.cells", f"value {self.cells!r}", "true or false"))
        _check_number("pileup", self.pileup, lambda x: 0 <= x <= MAX_PILEUP, f"a number in 0..{MAX_PILEUP}")
        _check_number("sigma_z", self.sigma_z, lambda x: x >= 0, "a length [mm] >= 0")
        _check_number("hit_efficiency", self.hit_efficiency, lambda x: 0 < x <= 1, "0 < probability <= 1")
        _check_number("noise_fraction", self.noise_fraction, lambda x: 0 <= x < 1, "0 <= fraction < 1")
        _check_number("field", self.field, lambda x: 0 < x <= MAX_FIELD, f"a field [T], 0 < B <= {MAX_FIELD:g}")
        widest = f"a length [mm] in 0..{MAX_MISALIGNMENT:g}"
        _check_number("misalignment", self.misalignment, lambda x: 0 <= x <= MAX_MISALIGNMENT, widest)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(describe("simulation.seed", f"value {self.seed!r}", "an integer >= 0"))
        if self.hard_process == "none" and self.pileup == 0:
            what, remedy = "hard_process 'none' with pileup 0 leaves nothing to simulate", "set one of the two"
            raise ConfigError(describe("simulation", what, "", remedy))


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(describe(f"simulation.{name}", f"value {value!r}", "one of " + ", ".join(allowed)))


def _check_number(name: str, value: object, inside, expected: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and inside(value)):
        raise ConfigError(describe(f"simulation.{name}", f"value {value!r}", expected))


# Pile-up levels of the TrackFormers study (one set of events per level).
PRESETS = {f"mu{pileup}": SimulationConfig(pileup=float(pileup)) for pileup in (0, 5, 20, 50, 200)}
