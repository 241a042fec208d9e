"""What a prepared sample is, in the words that every table and figure uses."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

TRUTH_FILTER = "truth_filter: noise and particles out of acceptance removed by truth"
USUAL_FIELD = 2.0  # solenoid field that needs no words [T]
_NAMES = {"kaggle": "TrackML", "local": "local data", "simulate": "simulated"}


@dataclass(frozen=True)
class Sample:
    """Conditions of the events of a prepared sample and the hits used.

    simulated: made by this package's simulation; decided by the raw events, whatever way they came in
    source: "simulate", "kaggle" or "local"
    pileup: mean number of soft collisions; sigma_z: beam-spot length [mm]; hit_efficiency: share of true
        hits kept; each None where the raw events do not say it. For events that are not simulated sigma_z
        is the spread of their primary vertices.
    n_test: number of test events
    selection_label: hits used, in words (``DataSelection.label()``)
    truth_filter: hits were removed by truth
    field: solenoid field [T]; misalignment: spread of module displacements [mm]; None where unknown, as above
    """

    simulated: bool
    source: str
    pileup: float | None
    sigma_z: float | None
    hit_efficiency: float | None
    n_test: int
    selection_label: str
    truth_filter: bool = False
    field: float | None = None
    misalignment: float | None = None

    @classmethod
    def load(cls, manifest: str | os.PathLike) -> "Sample":
        """Read the manifest of a prepared sample."""
        facts = json.loads(Path(manifest).read_text(encoding="utf-8"))
        simulated = facts["sigma_z"] is not None or facts["hard_process"] is not None
        return cls(
            simulated=simulated,
            source=facts["source"],
            pileup=_number(facts["pileup"]),
            sigma_z=_number(facts["sigma_z"] if simulated else facts["sigma_z_measured"]),
            hit_efficiency=_number(facts["hit_efficiency"]),
            n_test=facts["n_events_per_split"]["test"],
            selection_label=facts["selection_label"],
            truth_filter=facts["selection"]["truth_filter"],
            field=_number(facts.get("field")),  # older manifests do not have these
            misalignment=_number(facts.get("misalignment")),
        )

    def name(self) -> str:
        """Return what a figure calls the data: never an experiment's label."""
        return "TrackML-like simulation" if self.simulated else _NAMES[self.source]

    def origin(self) -> str:
        """Return the ``source`` of measured rows in tables."""
        return f"measured here ({'simulated' if self.simulated else _NAMES[self.source]})"

    def conditions(self) -> str:
        """Return the known conditions, e.g. ``200 pile-up, sigma_z = 5.5 mm, hit efficiency 0.98``."""
        spread = "sigma_z = {:g} mm" if self.simulated else "spread of primary vertices {:.3g} mm"
        known = (("{:g} pile-up", self.pileup), (spread, self.sigma_z), ("hit efficiency {:g}", self.hit_efficiency))
        texts = [text.format(value) for text, value in known if value is not None]
        return ", ".join([*texts, *unusual_detector(self.field, self.misalignment)])

    def label(self) -> str:
        """Return number of events, data, conditions and hits used as one phrase."""
        events = f"{self.n_test} test event" + ("" if self.n_test == 1 else "s")
        data = "simulated, TrackML-like" if self.simulated else _NAMES[self.source]
        return f"{events} ({'; '.join(part for part in (data, self.conditions()) if part)}); {self.selection_label}"


def unusual_detector(field: float | None, misalignment: float | None) -> list[str]:
    """Name a field other than 2 T and misaligned modules; a detector as trackers assume it needs no words."""
    texts = [] if field in (None, USUAL_FIELD) else [f"field {field:g} T"]
    return texts + ([f"modules misaligned by {misalignment:g} mm"] if misalignment else [])


def _number(value: object) -> float | None:
    """The value, or None if it is unknown or differs between shards."""
    return value if isinstance(value, int | float) else None
