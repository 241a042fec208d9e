"""Passes of the ACTS chain as they were tuned; what was tried: ``EXPERIMENTS.md``, entry on the Kalman filter."""

from trackbench.geometry.detector import PIXEL_VOLUMES, SHORT_STRIP_VOLUMES
from trackbench.trackers.layers.acts_finding import Pass, Seeds

_PIXELS = {
    "volumes": PIXEL_VOLUMES,
    "radius": (25.0, 200.0),
    "middle": (28.0, 160.0),
    "distance": (1.0, 300.0),
    "max_z": 2000.0,
}
_STRIPS = {
    "volumes": SHORT_STRIP_VOLUMES,
    "radius": (200.0, 700.0),
    "middle": (200.0, 600.0),
    "distance": (1.0, 300.0),
    "max_z": 3000.0,
}
# Of tracks from seeds in the strips [mm].
_OUTER_MARGIN, _OUTER_IMPACT, _OUTER_D0 = 130.0, 30.0, 100.0
_DISPLACED_Z0 = 3.0  # region where displaced seeds cross the beam line, in units of that of collisions


def passes(min_pt: float, max_z0: float, max_d0: float, pixel_only: bool) -> list[Pass]:
    """Return the passes in order.

    min_pt: of the first pass [GeV]; max_z0, max_d0: of collisions and of displaced tracks [mm], max_d0 = 0: none
    pixel_only: without strip hits
    """
    make = _pixel_passes if pixel_only else _full_passes
    return [one for one in make(min_pt, max_z0, max_d0) if one.max_d0 > 0]


def _pixel_passes(min_pt: float, max_z0: float, max_d0: float) -> list[Pass]:
    """Prompt tracks of four measurements, then of three; displaced ones of four, then, less far off, of three."""
    higher, highest = max(min_pt, 0.6), max(min_pt, 0.8)
    prompt = Seeds(**_PIXELS, min_pt=min_pt, max_z0=max_z0, max_impact=1.0, per_middle=1)
    short = prompt._replace(min_pt=higher, per_middle=3)
    displaced = short._replace(min_pt=highest, max_z0=_DISPLACED_Z0 * max_z0, max_impact=10.0)
    near = displaced._replace(max_z0=max_z0, max_impact=5.0)
    return [
        Pass(prompt, 1.0, min_hits=4, max_holes=1),
        Pass(short, 0.5, min_hits=3, max_holes=1, max_beam_chi2=12.0),
        Pass(displaced, max_d0, min_hits=4, max_holes=1, max_chi2_per_dof=3.0),
        Pass(near, max_d0, min_hits=3, max_holes=0, max_chi2_per_dof=2.0),
    ]


def _full_passes(min_pt: float, max_z0: float, max_d0: float) -> list[Pass]:
    """Long prompt tracks, long displaced ones, short prompt ones, and those born outside the pixels."""
    higher = max(min_pt, 0.75)
    prompt = Seeds(**_PIXELS, min_pt=min_pt, max_z0=max_z0, max_impact=1.0, per_middle=1)
    short = prompt._replace(min_pt=higher, per_middle=3)
    displaced = short._replace(max_z0=_DISPLACED_Z0 * max_z0, max_impact=10.0)
    outer = Seeds(**_STRIPS, min_pt=higher, max_z0=_OUTER_MARGIN + max_z0, max_impact=_OUTER_IMPACT, per_middle=3)
    return [
        Pass(prompt, 1.0, min_hits=7, max_holes=2),
        Pass(displaced, max_d0, min_hits=7, max_holes=2),
        Pass(short, 0.5, min_hits=3, max_holes=0),
        Pass(outer, _OUTER_D0 if max_d0 else 0.0, min_hits=5, max_holes=2),
    ]
