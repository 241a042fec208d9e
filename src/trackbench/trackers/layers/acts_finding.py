"""One pass of the ACTS chain: space points, triplet seeds, combinatorial Kalman filter, ambiguity resolution.

A pass is described by ``Pass``; ``build_pass`` makes its ACTS algorithms, to be run on an ``acts_event.Board``.
Sources: ACTS, Ai et al., Comput. Softw. Big Sci. 6 (2022) 8; settings that matter on this detector: the prototype
behind ``EXPERIMENTS.md``, entry on the Kalman filter.
"""

from typing import NamedTuple

from trackbench.geometry.acts_detector import build_detector, load_acts
from trackbench.geometry.detector import ALL_LAYERS, FIELD_T
from trackbench.trackers.layers.acts_event import MEASUREMENTS

_MAX_OUTLIERS = 2
_MAX_SHARED = 3  # measurements that a track may share with others


class Cut(NamedTuple):
    """What a found track must have below an |eta|.

    max_eta: upper edge of the bin in |eta|; min_hits: fewest measurements; max_holes: layers crossed without one
    """

    max_eta: float
    min_hits: int
    max_holes: int


class Pass(NamedTuple):
    """Settings of one pass.

    volumes: where seeds come from
    radius: smallest and largest radius of a space point of a seed [mm]; middle: of its middle space point
    min_pt: smallest transverse momentum of seeds and of tracks [GeV]
    max_z0: largest |z| where a seed crosses the beam line [mm]
    impact: largest transverse distance of a seed from the beam line [mm]
    max_d0: the same of a fitted track [mm]
    seeds_per_middle: seeds kept for each middle space point
    cuts: what found tracks must have, by |eta|, ascending
    chi2: largest chi2 of a measurement, outlier_chi2: of an outlier, above which the layer is a hole
    branches: measurements of a layer that are followed
    """

    volumes: tuple[int, ...]
    radius: tuple[float, float]
    middle: tuple[float, float]
    min_pt: float
    max_z0: float
    impact: float
    max_d0: float
    seeds_per_middle: int
    cuts: tuple[Cut, ...]
    chi2: float = 15.0
    outlier_chi2: float = 25.0
    branches: int = 1


class Algorithms(NamedTuple):
    """ACTS algorithms of a pass: by stage, and the one that makes tracks of seeds."""

    seeding: list
    seed_tracks: object
    finding: object
    ambiguity: object


# Stage -> name on the board of the tracks it leaves.
RESULTS = {"seeding": "seed_tracks", "finding": "found_tracks", "ambiguity": "resolved_tracks"}


def build_pass(settings: Pass) -> Algorithms:
    """Make the algorithms of a pass, which may be run on any number of events."""
    acts, examples = load_acts()
    quiet, geometry = acts.logging.FATAL, build_detector().tracking_geometry
    field = acts.ConstantBField(acts.Vector3(0, 0, FIELD_T * acts.UnitConstants.T))
    tools = _Tools(acts, examples, {"level": quiet}, geometry, field)
    seed_tracks = examples.SeedsToTracks(
        **tools.options,
        inputSeeds="estimated_seeds",
        inputTrackParameters="start",
        outputTracks=RESULTS["seeding"],
        trackingGeometry=geometry,
    )
    return Algorithms(_seeding(tools, settings), seed_tracks, _finding(tools, settings), _ambiguity(tools, settings))


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
        if volume in settings.volumes
    ]
    points = examples.SpacePointMaker(
        **tools.options,
        inputMeasurements=MEASUREMENTS,
        outputSpacePoints="space_points",
        trackingGeometry=tools.geometry,
        geometrySelection=layers,
        stripGeometrySelection=[],  # measurements of strips have two coordinates here
    )
    triplets = examples.GridTripletSeedingAlgorithm(
        **tools.options,
        inputSpacePoints="space_points",
        outputSeeds="seeds",
        bFieldInZ=FIELD_T * acts.UnitConstants.T,
        **_triplet_cuts(settings),
    )
    estimate = examples.TrackParamsEstimationAlgorithm(
        **tools.options,
        inputSeeds="seeds",
        outputSeeds="estimated_seeds",
        outputTrackParameters="start",
        trackingGeometry=tools.geometry,
        magneticField=tools.field,
        particleHypothesis=acts.ParticleHypothesis.pion,
    )
    return [points, triplets, estimate]


def _triplet_cuts(settings: Pass) -> dict:
    """Cuts of the triplet search; those not named in ``Pass`` are as wide as the detector."""
    return {
        "rMin": settings.radius[0],
        "rMax": settings.radius[1],
        "rMinMiddle": settings.middle[0],
        "rMaxMiddle": settings.middle[1],
        "deltaRMin": 1.0,
        "deltaRMax": 300.0,
        "zMin": -2000.0,
        "zMax": 2000.0,
        "cotThetaMax": 29.0,  # |eta| < 4.06
        "collisionRegionMin": -settings.max_z0,
        "collisionRegionMax": settings.max_z0,
        "impactMax": settings.impact,
        "minPt": settings.min_pt,
        "maxSeedsPerSpM": settings.seeds_per_middle,
        "sigmaScattering": 5.0,
        "radLengthPerSeed": 0.1,
    }


def _finding(tools: _Tools, settings: Pass):
    """The combinatorial Kalman filter, both ways from each seed that no track has used up."""
    acts, finder = tools.acts, tools.examples.TrackFindingAlgorithm
    selection = ([], [settings.chi2], [settings.outlier_chi2], [settings.branches])
    make = (tools.geometry, tools.field, tools.options["level"])
    return finder(
        **tools.options,
        inputMeasurements=MEASUREMENTS,
        inputInitialTrackParameters="start",
        inputSeeds="estimated_seeds",
        outputTracks=RESULTS["finding"],
        measurementSelectorCfg=acts.MeasurementSelector.Config([(acts.GeometryIdentifier(), selection)]),
        findTracks=finder.makeTrackFinderFunction(*make),
        findTracksBrem=finder.makeBremTrackFinderFunction(*make),
        trackingGeometry=tools.geometry,
        magneticField=tools.field,
        trackSelectorCfg=_selector(acts, settings),
        twoWay=True,
        seedDeduplication=True,
        stayOnSeed=True,
    )


def _selector(acts, settings: Pass):
    """Cuts on found tracks, in bins of |eta|."""
    cuts = [
        acts.TrackSelector.Config(
            ptMin=settings.min_pt,
            loc0=(-settings.max_d0, settings.max_d0),
            minMeasurements=cut.min_hits,
            maxHoles=cut.max_holes,
            maxOutliers=_MAX_OUTLIERS,
        )
        for cut in settings.cuts
    ]
    return acts.TrackSelector.EtaBinnedConfig(cutSets=cuts, absEtaEdges=[0.0, *(cut.max_eta for cut in settings.cuts)])


def _ambiguity(tools: _Tools, settings: Pass):
    """Take out tracks that share too many hits with better ones."""
    return tools.examples.GreedyAmbiguityResolutionAlgorithm(
        **tools.options,
        inputTracks=RESULTS["finding"],
        outputTracks=RESULTS["ambiguity"],
        maximumSharedHits=_MAX_SHARED,
        nMeasurementsMin=min(cut.min_hits for cut in settings.cuts),
        maximumIterations=1_000_000,
    )
