"""The ACTS generic detector, and the TrackML ``detectors.csv`` table built from it without any data file.

Simulation and the Kalman filter use it. The geometry (centres, rotations, sizes, thicknesses) comes from ACTS. Two
things are not in it and come from ``geometry.modules``: the cell pitches of the published table, and TrackML's
numbering of the endcap modules.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.errors import InputError, MissingExtraError, describe, missing_extra
from trackbench.geometry.detector import BARREL_VOLUMES, MODULES_PER_LAYER, N_MODULES, is_known_module
from trackbench.geometry.modules import cell_pitch, disc_order

PYACTS = "48.1.0"  # version whose detector is TrackML's; tests compare it module by module
ROTATION_COLUMNS = [f"rot_{axis}{local}" for axis in "xyz" for local in "uvw"]
DETECTOR_COLUMNS = [
    *("volume_id", "layer_id", "module_id", "cx", "cy", "cz"),
    *ROTATION_COLUMNS,
    *("module_t", "module_minhu", "module_maxhu", "module_hv", "pitch_u", "pitch_v"),
]


@dataclass(frozen=True)
class Detector:
    """The modules of the detector, sorted by volume, layer, module.

    table: the ``detectors.csv`` table, (18728, 21) [mm]
    geometry_id: (18728,) uint64, identifier of the module in ACTS
    tracking_geometry: the ACTS tracking geometry
    owner: the ACTS detector object, kept alive because the geometry points into it
    """

    table: pd.DataFrame
    geometry_id: np.ndarray
    tracking_geometry: object
    owner: object

    def rows(self, geometry_id: np.ndarray) -> np.ndarray:
        """Return the row of ``table`` of each ACTS identifier, -1 where it is no module. (n,) uint64 to int64."""
        order = np.argsort(self.geometry_id)
        known = self.geometry_id[order]
        at = np.minimum(np.searchsorted(known, geometry_id), len(known) - 1)
        return np.where(known[at] == geometry_id, order[at], -1)

    def geometry_ids(self, volume_id: np.ndarray, layer_id: np.ndarray, module_id: np.ndarray) -> np.ndarray:
        """Return the ACTS identifier of TrackML modules, 0 where there is no such module. (n,) uint64."""
        known = is_known_module(volume_id, layer_id, module_id)
        key = _module_key(*(self.table[name].to_numpy() for name in ("volume_id", "layer_id", "module_id")))
        wanted = _module_key(volume_id, layer_id, module_id)
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(known & (key[at] == wanted), self.geometry_id[at], np.uint64(0))


def _module_key(volume_id, layer_id, module_id) -> np.ndarray:
    """One number per module; that of ids no module has may be that of a module."""
    return (np.asarray(volume_id, np.int64) << 32) | (np.asarray(layer_id, np.int64) << 16) | np.asarray(module_id)


def load_acts(extra: str = "simulate", purpose: str = "the simulation"):
    """Import and return (acts, acts.examples).

    extra, purpose: what an error names
    Raises MissingExtraError if pyacts is not installed, or cannot be loaded here (such as with an older glibc).
    """
    try:
        import acts
        import acts.examples
    except ModuleNotFoundError as error:
        if error.name != "acts":
            raise _broken(error, purpose) from error
        raise missing_extra("acts", extra, purpose) from error
    except ImportError as error:
        raise _broken(error, purpose) from error
    return acts, acts.examples


def _broken(error: ImportError, purpose: str) -> MissingExtraError:
    """Error for a pyacts that is there but cannot be loaded, with the cause in one line."""
    what = f"the package 'acts' is installed but cannot be loaded ({' '.join(str(error).split())})"
    remedy = "see Installation in docs/ckf.md for the systems that it runs on"
    return MissingExtraError(describe(purpose, what, "", remedy))


@functools.cache
def build_detector() -> Detector:
    """Build the detector, once per process (about 1 CPU s).

    Raises MissingExtraError if pyacts is not installed, InputError if it is a version with other modules.
    """
    acts, examples = load_acts()
    owner = examples.GenericDetector(examples.GenericDetector.Config(logLevel=acts.logging.WARNING))
    geometry = owner.trackingGeometry()
    table = _surface_table(geometry, acts.GeometryContext.dangerouslyDefaultConstruct())
    _require_trackml(table, ".".join(map(str, acts.__version__)))
    table["module_id"] = _module_numbers(table)
    table = table.sort_values(["volume_id", "layer_id", "module_id"], ignore_index=True)
    pitch = [cell_pitch(volume) for volume in table["volume_id"]]
    table["pitch_u"], table["pitch_v"] = np.array(pitch, dtype=np.float64).T
    return Detector(table[DETECTOR_COLUMNS], table["geometry_id"].to_numpy(np.uint64), geometry, owner)


def build_detectors() -> pd.DataFrame:
    """Build the TrackML ``detectors.csv`` table: 18,728 modules, columns ``DETECTOR_COLUMNS`` [mm].

    Local axes: u, v in the module plane, w normal; global = rotation (u, v, w) + centre.
    Raises MissingExtraError if pyacts is not installed.
    """
    return build_detector().table.copy()


def _surface_table(geometry, context) -> pd.DataFrame:
    """One row per sensitive surface of ACTS, with its own numbering in ``sensitive``."""
    rows = []
    for identifier, surface in geometry.geoIdSurfaceMap().items():
        if identifier.sensitive == 0:
            continue
        centre, rotation = surface.center(context), surface.localToGlobalTransform(context).rotation
        rows.append(
            (
                *(identifier.volume, identifier.layer, identifier.sensitive, identifier.value),
                *(centre[i] for i in range(3)),
                *(rotation[i, j] for i in range(3) for j in range(3)),
                surface.thickness,
                *_half_lengths(surface.bounds.values()),
            )
        )
    ids = ["volume_id", "layer_id", "sensitive", "geometry_id"]
    sizes = ["module_t", "module_minhu", "module_maxhu", "module_hv"]
    table = pd.DataFrame(rows, columns=[*ids, "cx", "cy", "cz", *ROTATION_COLUMNS, *sizes])
    return table.astype({"volume_id": "int64", "layer_id": "int64", "sensitive": "int64", "geometry_id": "uint64"})


def _require_trackml(table: pd.DataFrame, version: str) -> None:
    """Check that every layer has the number of modules that TrackML has."""
    found = table.groupby(["volume_id", "layer_id"]).size().to_dict()
    if found != MODULES_PER_LAYER:
        other = sum(found.get(key) != MODULES_PER_LAYER.get(key) for key in found.keys() | MODULES_PER_LAYER.keys())
        what = f"its detector has {len(table):,} modules, with other numbers than TrackML in {other} layers"
        remedy = f"run pip install pyacts=={PYACTS}"
        raise InputError(describe(f"pyacts {version}", what, f"the {N_MODULES:,} modules of pyacts {PYACTS}", remedy))


def _half_lengths(bounds) -> tuple[float, float, float]:
    """Half length in u at low v, in u at high v, and in v: a trapezoid has 3 or 4 bounds, first negative never."""
    values = list(bounds)
    if values[0] < 0:  # rectangle: lower left corner, upper right corner
        return values[2], values[2], values[3]
    return values[0], values[1], values[2]


def _module_numbers(table: pd.DataFrame) -> np.ndarray:
    """TrackML module_id: ACTS' own number in barrels, the azimuth order of ``disc_order`` in endcaps."""
    number = table["sensitive"].to_numpy(np.int64).copy()
    discs = table[~table["volume_id"].isin(BARREL_VOLUMES)]
    for (volume, _), disc in discs.groupby(["volume_id", "layer_id"]):
        rows = disc.index.to_numpy()
        order = disc_order(disc["cx"].to_numpy(), disc["cy"].to_numpy(), volume)
        number[rows[order]] = np.arange(1, len(rows) + 1)
    return number
