"""Propagate particles through the detector with ACTS Fatras.

Source: ACTS, Ai et al., Comput. Softw. Big Sci. 6 (2022) 8. Constant field along z, multiple
scattering, ionisation and radiation; Fatras has no hadronic interactions (see ``interactions``).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.geometry.acts_detector import build_detector, load_acts
from trackbench.geometry.detector import FIELD_T

PT_MIN_HITS = 0.15  # softer particles leave no hits in TrackML [GeV]
P_MIN = 0.1  # below this momentum Fatras stops a particle [GeV]; its default 0.5 kills soft ones silently
_ID = ("particle_id_pv", "particle_id_sv", "particle_id_part", "particle_id_gen", "particle_id_subpart")
_PARTS = 1 << 15  # particles per artificial vertex: the id fields handed to ACTS stay small


@dataclass(frozen=True)
class SimulatedHits:
    """Hits of one Fatras pass, sorted by particle and then along the track.

    particle: (n,) int64 row of the particle table
    module: (n,) int64 row of the detector table
    position: (n, 3) true position [mm]
    momentum: (n, 3) momentum at the hit [GeV]
    """

    particle: np.ndarray
    module: np.ndarray
    position: np.ndarray
    momentum: np.ndarray

    def __len__(self) -> int:
        return len(self.particle)

    def take(self, index: np.ndarray) -> "SimulatedHits":
        """Return the hits at ``index``: (m,) int positions or (n,) bool mask."""
        return SimulatedHits(self.particle[index], self.module[index], self.position[index], self.momentum[index])

    def shifted(self, rows: int) -> "SimulatedHits":
        """Return the hits with ``rows`` added to the particle numbers."""
        return SimulatedHits(self.particle + rows, self.module, self.position, self.momentum)

    def concatenate(self, other: "SimulatedHits") -> "SimulatedHits":
        """Return these hits followed by the ``other`` ones; both count rows of the same particle table."""
        names = ("particle", "module", "position", "momentum")
        return SimulatedHits(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def no_hits() -> SimulatedHits:
    """Return an empty set of hits."""
    return SimulatedHits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)))


def propagate(particles: pd.DataFrame, event_id: int, seed: int, field: float = FIELD_T) -> SimulatedHits:
    """Propagate the particles of one event and return their hits on sensitive modules.

    particles: table with particle_type, vx, vy, vz, vt, px, py, pz, m, q [mm, GeV, e]; those below
        ``PT_MIN_HITS`` make no hits
    seed: of ACTS, which combines it with ``event_id``
    field: solenoid field along +z [T]
    """
    used = np.flatnonzero(np.hypot(particles["px"], particles["py"]) > PT_MIN_HITS)
    if used.size == 0:
        return no_hits()
    with tempfile.TemporaryDirectory(prefix="trackbench-") as scratch:
        _write_input(particles, used, Path(scratch) / f"event{event_id:09d}-particles.csv")
        _run(scratch, seed, field)
        return _read_hits(Path(scratch) / f"event{event_id:09d}-hits.csv")


def _write_input(particles: pd.DataFrame, used: np.ndarray, path: Path) -> None:
    """Write the particle file of ACTS; a particle's row number is its identity (two fields)."""
    import pyarrow as pa
    import pyarrow.csv

    zero = np.zeros(len(used), dtype=np.int64)
    columns = dict(zip(_ID, (used // _PARTS + 1, zero, used % _PARTS + 1, zero, zero), strict=True))
    columns["particle_type"] = particles["particle_type"].to_numpy()[used]
    columns["process"] = zero
    for name in ("vx", "vy", "vz", "vt", "px", "py", "pz", "m", "q"):
        columns[name] = particles[name].to_numpy()[used].astype(np.float32)
    pa.csv.write_csv(pa.table(columns), path, pa.csv.WriteOptions(quoting_header="none"))


def _run(directory: str, seed: int, field: float) -> None:
    """Run reader, Fatras and hit writer on the one event in ``directory``."""
    acts, examples = load_acts()
    gev, tesla, quiet = acts.UnitConstants.GeV, acts.UnitConstants.T, acts.logging.FATAL
    sequencer = examples.Sequencer(
        events=1,
        numThreads=1,
        outputDir=directory,
        logLevel=acts.logging.ERROR,
        trackFpes=False,  # else one unmasked floating point exception makes a finished run raise
    )
    sequencer.addReader(
        examples.CsvParticleReader(
            level=quiet, inputDir=directory, inputStem="particles", outputParticles="particles_generated"
        )
    )
    sequencer.addAlgorithm(
        examples.FatrasSimulation(
            level=quiet,
            inputParticles="particles_generated",
            outputParticles="particles_simulated",
            outputSimHits="simhits",
            randomNumbers=examples.RandomNumbers(seed=seed),
            trackingGeometry=build_detector().tracking_geometry,
            magneticField=acts.ConstantBField(acts.Vector3(0, 0, field * tesla)),
            generateHitsOnSensitive=True,
            emScattering=True,
            emEnergyLossIonisation=True,
            emEnergyLossRadiation=True,
            emPhotonConversion=True,
            pMin=P_MIN * gev,
        )
    )
    sequencer.addWriter(
        examples.CsvSimHitWriter(level=quiet, inputSimHits="simhits", outputDir=directory, outputStem="hits")
    )
    sequencer.run()


def _read_hits(path: Path) -> SimulatedHits:
    """Read the hit file of ACTS, without what photons made by radiation left (generation > 0)."""
    import pyarrow.csv

    identity = ["particle_id_pv", "particle_id_part", "particle_id_gen", "index", "geometry_id"]
    vectors = ["tx", "ty", "tz", "tpx", "tpy", "tpz"]
    wanted = [*identity, *vectors]
    types = {"geometry_id": "uint64", **dict.fromkeys(identity[:4], "int64"), **dict.fromkeys(vectors, "float64")}
    options = pyarrow.csv.ConvertOptions(include_columns=wanted, column_types=types)
    table = pyarrow.csv.read_csv(path, convert_options=options)
    column = {name: table[name].to_numpy() for name in wanted}
    particle = (column["particle_id_pv"] - 1) * _PARTS + column["particle_id_part"] - 1
    module = build_detector().rows(column["geometry_id"])
    order = np.lexsort((column["index"], particle))
    order = order[(column["particle_id_gen"][order] == 0) & (module[order] >= 0)]
    position, momentum = (np.stack([column[name] for name in part], axis=1) for part in (vectors[:3], vectors[3:]))
    return SimulatedHits(particle[order], module[order], position[order], momentum[order])
