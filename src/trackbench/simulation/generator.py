"""Collisions with Pythia8: one hard process and Poisson(pileup) soft ones.

Source: Bierlich et al., "A comprehensive guide to the physics and usage of PYTHIA 8.3",
SciPost Phys. Codebases 8 (2022). Beams and processes are those of the TrackML data set: pp at 14 TeV,
``SoftQCD:all`` pile-up, charged final particles with pT > 0.1 GeV and |eta| < 4.
"""

import logging
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from trackbench.data.particle_id import pack_particle_id
from trackbench.errors import InputError, describe, missing_extra
from trackbench.files import MAKE_ROOM, atomic_path
from trackbench.simulation.config import SimulationConfig

log = logging.getLogger(__name__)

PROCESSES = {
    "softqcd": ("SoftQCD:all = on",),
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "tthbb": ("HiggsSM:gg2Httbar = on", "HiggsSM:qqbar2Httbar = on", "25:onMode = off", "25:onIfAny = 5"),
}
BASE_SETTINGS = ("Beams:idA = 2212", "Beams:idB = 2212", "Beams:eCM = 14000.", "Print:quiet = on")
WRITE, READ = 1, 2  # the initialisation file, in Pythia's own numbers
REMOVE = "remove it and run again"
_END = b"}\n"
_CHECKSUM = b"! crc32 "  # begins the last line, a comment for Pythia
INIT_SEED = 12345  # of the initialisation only: every event seeds the generator anew

SIGMA_XY = 0.015  # spread of the vertices across the beam [mm]
PT_MIN = 0.1  # [GeV]
ETA_MAX = 4.0
# Production outside the tracker makes no hits [mm].
R_MAX, Z_MAX = 1000.0, 2950.0

_FIELDS = ("vertex", "number", "particle_type", "vx", "vy", "vz", "vt", "px", "py", "pz", "m", "q")
_INTEGER_FIELDS = ("vertex", "number", "particle_type", "q")
PRIMARY_COLUMNS = ("particle_id", "particle_type", "vx", "vy", "vz", "vt", "px", "py", "pz", "m", "q")


def load_pythia():
    """Import and return pythia8mc; raises MissingExtraError if it is not installed."""
    try:
        import pythia8mc
    except ImportError as error:
        raise missing_extra("pythia8mc", "simulate", "the simulation") from error
    return pythia8mc


def _processes(config: SimulationConfig) -> list[str]:
    """Names of the processes this config draws from, hard one first."""
    names = [] if config.hard_process == "none" else [config.hard_process]
    return [*names, "softqcd"] if config.pileup > 0 else names


def _init_file(cache_dir: str | Path, process: str) -> Path:
    load_pythia()
    return Path(cache_dir).absolute() / f"pythia-{version('pythia8mc')}-{process}.mpi"


def _start(process: str, reuse: int, init_file: Path):
    """Start Pythia for one process. reuse: ``WRITE`` or ``READ`` the ``init_file``."""
    pythia = load_pythia().Pythia("", False)
    seed = ("Random:setSeed = on", f"Random:seed = {INIT_SEED}")
    initialisation = (f"MultipartonInteractions:reuseInit = {reuse}", f"MultipartonInteractions:initFile = {init_file}")
    for setting in (*BASE_SETTINGS, *seed, *initialisation, *PROCESSES[process]):
        if not pythia.readString(setting):
            raise RuntimeError(f"Pythia does not know the setting {setting!r}")
    if not pythia.init():
        if reuse == READ:
            raise InputError(describe(init_file, "Pythia does not start with it", "a complete file", REMOVE))
        raise RuntimeError(f"Pythia did not start for {process} (initialisation file {init_file})")
    return pythia


def _write_init_file(process: str, path: Path) -> None:
    """Make an initialisation file, checked and with a checksum: Pythia does not say when the disk is full."""
    with atomic_path(path) as temporary:
        _start(process, WRITE, temporary)
        content = temporary.read_bytes()
        try:
            if not content.endswith(_END):
                raise InputError("no end")
            with temporary.open("ab") as file:
                file.write(_CHECKSUM + b"%08x\n" % zlib.crc32(content))
            _start(process, READ, temporary)
        except InputError as error:
            raise InputError(describe(path, "Pythia wrote only a part of it", "a complete file", MAKE_ROOM)) from error


def _verify_init_file(path: Path) -> None:
    """Raise InputError for a damaged initialisation file: Pythia would start with many of them, and draw other events.

    Files of older versions have no checksum; of them only the end is checked.
    """
    content, mark, checksum = path.read_bytes().partition(_CHECKSUM)
    expected = b"%08x\n" % zlib.crc32(content) if mark else b""
    if checksum != expected or not content.endswith(_END):
        raise InputError(describe(path, "cut short or damaged", "a complete file", REMOVE))


def prepare_generator(config: SimulationConfig, cache_dir: str | Path) -> list[Path]:
    """Make the files that let Pythia start in 0.3 s instead of 5-10 s, where they do not exist yet.

    Every simulation reads them, also the first one: a generator started without them draws other events.
    Returns the files. Written atomically, so that parallel jobs may call this at once.
    Raises InputError if the disk is full or a file is damaged.
    """
    files = []
    for process in _processes(config):
        path = _init_file(cache_dir, process)
        if not path.exists():
            log.info("initialising Pythia for %s, once (about 10 s)", process)
            _write_init_file(process, path)
        _verify_init_file(path)
        files.append(path)
    return files


class Generator:
    """Draws the particles of events; the same for an event whatever was generated before it."""

    def __init__(self, config: SimulationConfig, cache_dir: str | Path):
        prepare_generator(config, cache_dir)
        self.config = config
        self._pythia = {name: _start(name, READ, _init_file(cache_dir, name)) for name in _processes(config)}

    def generate(self, event_id: int) -> pd.DataFrame:
        """Return the charged particles of one event: ``PRIMARY_COLUMNS`` [mm, GeV, e], sorted by particle_id.

        The hard process has vertex number 1, pile-up 2, 3, ...
        """
        config = self.config
        seeds = np.random.SeedSequence([config.seed, event_id]).generate_state(len(self._pythia))
        for pythia, seed in zip(self._pythia.values(), seeds, strict=True):
            pythia.rndm.init(int(seed % 900_000_000))  # the largest seed Pythia takes
        rng = np.random.default_rng([config.seed, event_id, 0])
        n_pileup = int(rng.poisson(config.pileup))
        position = rng.normal(0.0, (SIGMA_XY, SIGMA_XY, config.sigma_z), (n_pileup + 1, 3))
        rows: list[tuple] = []
        for vertex in range(1, n_pileup + 2):
            name = config.hard_process if vertex == 1 else "softqcd"
            if name != "none":
                _collide(self._pythia[name], vertex, rows)
        return _particle_table(rows, position)


def _collide(pythia, vertex: int, rows: list[tuple]) -> None:
    """Append the charged final particles of one collision, numbered from 1, as ``_FIELDS``."""
    while not pythia.next():
        log.debug("Pythia rejected a collision at vertex %d", vertex)
    number = 0
    for p in pythia.event:
        if not p.isFinal() or not p.isCharged() or p.pT() < PT_MIN:
            continue
        number += 1
        place = (p.xProd(), p.yProd(), p.zProd(), p.tProd())
        rows.append((vertex, number, p.id(), *place, p.px(), p.py(), p.pz(), p.m(), p.charge()))


def _particle_table(rows: list[tuple], position: np.ndarray) -> pd.DataFrame:
    """Shift particles to their vertices, apply the acceptance, pack the ids. position: (n_vertices, 3) [mm]."""
    values = np.array(rows, dtype=np.float64).reshape(-1, len(_FIELDS))
    column = {name: values[:, i] for i, name in enumerate(_FIELDS)}
    vertex = column["vertex"].astype(np.int64)
    for i, name in enumerate(("vx", "vy", "vz")):
        column[name] = column[name] + position[vertex - 1, i]
    pt = np.hypot(column["px"], column["py"])
    inside = np.abs(np.arcsinh(column["pz"] / pt)) < ETA_MAX
    inside &= (np.hypot(column["vx"], column["vy"]) < R_MAX) & (np.abs(column["vz"]) < Z_MAX)
    column = {name: column[name][inside] for name in _FIELDS}
    column.update({name: np.rint(column[name]).astype(np.int64) for name in _INTEGER_FIELDS})
    zero = np.zeros(int(inside.sum()), dtype=np.int64)
    column["particle_id"] = pack_particle_id(column["vertex"], column["number"], zero, zero)
    return pd.DataFrame({name: column[name] for name in PRIMARY_COLUMNS})
