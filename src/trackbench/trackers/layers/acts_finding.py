"""One pass of the ACTS chain: space points, triplet seeds, combinatorial Kalman filter, ambiguity resolution.

A pass is described by ``Pass``; ``build_pass`` makes its ACTS algorithms, to be run on an ``acts_event.Board``.
Source: ACTS, Ai et al., Comput. Softw. Big Sci. 6 (2022) 8.
"""

import math
from typing import NamedTuple

import numpy as np

from trackbench.geometry.acts_detector import build_detector, load_acts
from trackbench.geometry.detector import ALL_LAYERS, FIELD_T
from trackbench.trackers.layers.acts_event import MEASUREMENTS, Found, degrees_of_freedom

_MAX_ETA = 4.5  # of tracks
_MAX_COT_THETA = 29.0  # |eta| < 4.06
_SCATTERING_SIGMAS, _RADIATION_LENGTHS = 3.0, 0.05  # how far a seed may be bent, and by how much material
_MAX_CHI2, _MAX_OUTLIER_CHI2 = 15.0, 25.0  # of a measurement and of an outlier; above there is a hole
_BRANCHES = 1  # measurements of a layer that are followed
_MAX_OUTLIERS = 2
_MAX_SHARED = 3  # a track that shares so many measurements with better ones, or more, is taken out


class Seeds(NamedTuple):
    """Cuts on seeds: three space points on a helix that comes from near the beam line.

    volumes: where their space points are
    radius: smallest and largest transverse distance of a space point from the beam line [mm]; middle: of the middle one
    distance: smallest and largest radial distance between two neighbouring space points [mm]
    max_z: largest |z| of a space point [mm]
    min_pt: smallest transverse momentum [GeV]
    max_z0: largest |z| where a seed crosses the beam line [mm]
    max_impact: largest transverse distance of a seed from the beam line [mm]
    per_middle: seeds kept for each middle space point
    """

    volumes: tuple[int, ...]
    radius: tuple[float, float]
    middle: tuple[float, float]
    distance: tuple[float, float]
    max_z: float
    min_pt: float
    max_z0: float
    max_impact: float
    per_middle: int


class Pass(NamedTuple):
    """Settings of one pass.

    seeds: where it starts; tracks have the same smallest transverse momentum
    max_d0: largest |d0| of a fitted track [mm]
    min_hits: fewest measurements of a track; max_holes: layers that it crosses without one
    max_beam_chi2: largest chi2 + (d0 / sigma)^2 of a track, the chi2 with the beam line as a measurement
    max_chi2_per_dof: largest chi2 per degree of freedom, of which a track of three hits has one
    """

    seeds: Seeds
    max_d0: float
    min_hits: int
    max_holes: int
    max_beam_chi2: float = math.inf
    max_chi2_per_dof: float = math.inf


def good_fits(found: Found, settings: Pass) -> np.ndarray:
    """Tell which tracks pass ``max_beam_chi2`` and ``max_chi2_per_dof``. Returns (m,) bool."""
    d0, variance = found.parameters[:, 0], found.covariance[:, 0, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        beam_chi2 = found.chi2 + np.square(d0) / variance
    per_dof = found.chi2 / np.maximum(degrees_of_freedom(found), 1)
    return (beam_chi2 <= settings.max_beam_chi2) & (per_dof <= settings.max_chi2_per_dof)


SPACE_POINTS, SEEDS = "space_points", "seeds"
# Stage -> name on the board of the tracks it leaves.
TRACKS = {"finding": "found_tracks", "ambiguity": "resolved_tracks"}


def build_pass(settings: Pass) -> dict[str, list]:
    """Make the algorithms of a pass: stage -> algorithms in order. They may be run on any number of events."""
    acts, examples = load_acts()
    field = acts.ConstantBField(acts.Vector3(0, 0, FIELD_T * acts.UnitConstants.T))
    geometry = build_detector().tracking_geometry
    tools = _Tools(acts, examples, {"level": acts.logging.FATAL}, geometry, field)
    return {
        "seeding": _seeding(tools, settings),
        "finding": [_finding(tools, settings)],
        "ambiguity": [_ambiguity(tools, settings)],
    }


class _Tools(NamedTuple):
    acts: object
    examples: object
    options: dict
    geometry: object
    field: object


def _seeding(tools: _Tools, settings: Pass) -> list:
    """Space points, one per measurement, triplets of them on a helix, and track parameters from each triplet."""
    acts, examples = tools.acts, tools.examples
    layers = [
        acts.GeometryIdentifier(volume=volume, layer=layer)
        for volume, layer in ALL_LAYERS
        if volume in settings.seeds.volumes
    ]
    points = examples.SpacePointMaker(
        **tools.options,
        inputMeasurements=MEASUREMENTS,
        outputSpacePoints=SPACE_POINTS,
        trackingGeometry=tools.geometry,
        geometrySelection=layers,
        stripGeometrySelection=[],  # measurements of strips have two coordinates here
    )
    triplets = examples.GridTripletSeedingAlgorithm(
        **tools.options,
        inputSpacePoints=SPACE_POINTS,
        outputSeeds=SEEDS,
        bFieldInZ=FIELD_T * acts.UnitConstants.T,
        **_triplet_cuts(settings.seeds),
    )
    estimate = examples.TrackParamsEstimationAlgorithm(
        **tools.options,
        inputSeeds=SEEDS,
        outputSeeds="estimated_seeds",
        outputTrackParameters="start",
        trackingGeometry=tools.geometry,
        magneticField=tools.field,
        particleHypothesis=acts.ParticleHypothesis.pion,
    )
    return [points, triplets, estimate]


def _triplet_cuts(seeds: Seeds) -> dict:
    """Cuts of the triplet search by their names in ACTS."""
    return {
        "rMin": seeds.radius[0],
        "rMax": seeds.radius[1],
        "rMinMiddle": seeds.middle[0],
        "rMaxMiddle": seeds.middle[1],
        "deltaRMin": seeds.distance[0],
        "deltaRMax": seeds.distance[1],
        "zMin": -seeds.max_z,
        "zMax": seeds.max_z,
        "collisionRegionMin": -seeds.max_z0,
        "collisionRegionMax": seeds.max_z0,
        "impactMax": seeds.max_impact,
        "minPt": seeds.min_pt,
        "maxSeedsPerSpM": seeds.per_middle,
        "cotThetaMax": _MAX_COT_THETA,
        "sigmaScattering": _SCATTERING_SIGMAS,
        "radLengthPerSeed": _RADIATION_LENGTHS,
    }


def _finding(tools: _Tools, settings: Pass):
    """The combinatorial Kalman filter, both ways from each seed that no track has used up."""
    acts, finder = tools.acts, tools.examples.TrackFindingAlgorithm
    selection = ([], [_MAX_CHI2], [_MAX_OUTLIER_CHI2], [_BRANCHES])
    return finder(
        **tools.options,
        inputMeasurements=MEASUREMENTS,
        inputInitialTrackParameters="start",
        inputSeeds="estimated_seeds",
        outputTracks=TRACKS["finding"],
        measurementSelectorCfg=acts.MeasurementSelector.Config([(acts.GeometryIdentifier(), selection)]),
        findTracks=finder.makeTrackFinderFunction(tools.geometry, tools.field, tools.options["level"]),
        trackingGeometry=tools.geometry,
        magneticField=tools.field,
        trackSelectorCfg=_selector(acts, settings),
        twoWay=True,
        seedDeduplication=True,
        stayOnSeed=True,
        recordMaterialStates=False,
    )


def _selector(acts, settings: Pass):
    """Cuts on found tracks."""
    return acts.TrackSelector.Config(
        ptMin=settings.seeds.min_pt,
        absEta=(0.0, _MAX_ETA),
        loc0=(-settings.max_d0, settings.max_d0),
        minMeasurements=settings.min_hits,
        maxHoles=settings.max_holes,
        maxOutliers=_MAX_OUTLIERS,
    )


def _ambiguity(tools: _Tools, settings: Pass):
    """Take out tracks that share ``_MAX_SHARED`` measurements or more with better ones."""
    return tools.examples.GreedyAmbiguityResolutionAlgorithm(
        **tools.options,
        inputTracks=TRACKS["finding"],
        outputTracks=TRACKS["ambiguity"],
        maximumSharedHits=_MAX_SHARED,
        nMeasurementsMin=settings.min_hits,
        maximumIterations=1_000_000,
    )
