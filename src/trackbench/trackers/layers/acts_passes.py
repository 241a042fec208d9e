"""Passes of the ACTS chain as they were tuned; numbers and what was tried: ``EXPERIMENTS.md``."""

from trackbench.geometry.detector import PIXEL_VOLUMES
from trackbench.trackers.layers.acts_finding import Cut, Pass

_PIXELS = {"volumes": PIXEL_VOLUMES, "radius": (25.0, 200.0), "middle": (28.0, 160.0)}


def passes(min_pt: float, max_z0: float, max_d0: float, pixel_only: bool) -> list[Pass]:
    """Return the passes in order.

    min_pt: of the first pass [GeV]; max_z0, max_d0: of collisions and of displaced tracks [mm]
    pixel_only: without strip hits
    """
    higher = max(min_pt, 0.6)  # of chance candidates on few hits, most are soft
    prompt = Pass(
        **_PIXELS, min_pt=min_pt, max_z0=max_z0, impact=3.0, max_d0=2.0, seeds_per_middle=1, cuts=(Cut(4.5, 4, 1),)
    )
    short = Pass(
        **_PIXELS, min_pt=higher, max_z0=max_z0, impact=1.0, max_d0=0.3, seeds_per_middle=3, cuts=(Cut(4.5, 3, 0),)
    )
    displaced = Pass(
        **_PIXELS,
        min_pt=higher,
        max_z0=3 * max_z0,
        impact=10.0,
        max_d0=max_d0,
        seeds_per_middle=3,
        cuts=(Cut(4.5, 4, 1),),
    )
    return [prompt, short, displaced] if max_d0 else [prompt, short]
