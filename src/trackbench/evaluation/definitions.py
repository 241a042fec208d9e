"""The catalogue of metrics: name, title, how its uncertainty is found, and what is divided by what.

P = purity, E = completeness of a cluster with respect to its majority particle. A *candidate* is a
cluster of at least ``min_cluster_size`` hits, a *target* a particle that passes the selection and left a
hit, a *fiducial* candidate one whose majority particle is a target. All comparisons are strict unless
written otherwise. ``fake_all`` takes candidates of any momentum: a rate restricted to high transverse momentum
needs a fit of each candidate, which labels alone do not give. Metrics that need such a fit, ``fake_all_pt`` and
those of vertices, exist for trackers that give track parameters only.

Sources: gnn_tracking ``metrics/cluster_metrics.py``; HEPTv2 ``heptv2/eval/metrics.py``; acorn
``track_building``; hepattn ``experiments/trackml/eval``; trackml-library ``trackml/score.py``.
"""

from dataclasses import dataclass

PROMPT_RADIUS = 2.0  # production vertex this close to the beam line [mm]
VERTEX_WINDOW = 0.3  # distance along the beam of a found vertex to the true one it is matched to, at most [mm]

DEFINITION_VERSION = "v1"  # raise when any value below would change on the same labels and truth

# Only trackers that give the parameters of their candidates have these.
FITTED_METRICS = ("fake_all_pt", "n_candidates_pt", "vertex_efficiency", "vertex_fake_rate")
ACORN_STYLES = ("atlas", "one_way", "two_way")
ACORN_LENGTHS = (3, 5)


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue.

    title: name for tables and axes
    kind: "binomial" = k of n, gets a binomial interval; "ratio" = event bootstrap only;
        "count" = mean per event
    definition: numerator / denominator in words
    """

    title: str
    kind: str
    definition: str


def _acorn(style: str, length: int) -> dict[str, Metric]:
    tail = f"acorn {style}, candidates >= {length} hits"
    efficiency = "distinct targets reconstructed / targets"
    fake = "candidates not matched / all candidates, whatever leads them"
    duplicate = "(reconstructed target pairs - distinct targets) / distinct targets"
    return {
        f"acorn_{style}_eff_{length}": Metric(f"Efficiency ({tail})", "binomial", efficiency),
        f"acorn_{style}_fake_{length}": Metric(f"Fake rate ({tail})", "binomial", fake),
        f"acorn_{style}_dup_{length}": Metric(f"Duplicate rate ({tail})", "ratio", duplicate),
    }


def _maskformer(suffix: str, note: str) -> dict[str, Metric]:
    one = f"one-to-one, pT > 1 GeV{note}"
    valid = "all candidates >= 3 hits"
    return {
        f"maskformer_dm{suffix}": Metric(f"DM ({one})", "binomial", "matched with P > 1/2 and E > 1/2 / particles"),
        f"maskformer_perfect{suffix}": Metric(f"Perfect ({one})", "binomial", "matched with P = E = 1 / particles"),
        f"maskformer_lhc{suffix}": Metric(f"LHC ({one})", "binomial", "matched with P > 3/4 / particles"),
        f"maskformer_fake{suffix}": Metric(f"Fake rate ({one})", "binomial", f"not DM / {valid}"),
        f"maskformer_dup{suffix}": Metric(f"Duplicate rate ({one})", "binomial", f"copies of another / {valid}"),
    }


METRICS: dict[str, Metric] = {
    "dm": Metric("DM efficiency", "binomial", "fiducial candidates with P > 1/2 and E > 1/2 / targets"),
    "technical": Metric("Technical efficiency", "binomial", "targets leading a candidate with P > 1/2 / targets"),
    "perfect": Metric("Perfect efficiency", "binomial", "fiducial candidates with P > 0.99 and E = 1 / targets"),
    "lhc": Metric("LHC purity", "binomial", "fiducial candidates with P > 3/4 / fiducial candidates"),
    "fake_rate": Metric("Fake rate (purity)", "binomial", "fiducial candidates with P <= 1/2 / fiducial candidates"),
    "fake_dm": Metric("Fake rate (DM, per candidate)", "binomial", "fiducial not DM / fiducial candidates"),
    "fake_perfect": Metric("Fake rate (perfect)", "binomial", "fiducial not perfect / fiducial candidates"),
    "fake_lhc": Metric("Fake rate (LHC)", "binomial", "fiducial with P <= 3/4 / fiducial candidates"),
    "fake_dm_per_particle": Metric("Fake rate (DM, per particle)", "ratio", "fiducial not DM / targets"),
    "dup_rate": Metric("Duplicate rate", "ratio", "(fiducial with P > 1/2 - distinct targets so led) / those targets"),
    "fake_all": Metric(
        "Fake rate (all candidates)", "binomial", "candidates not DM-matched to any particle / all candidates"
    ),
    "fake_all_pt": Metric(
        "Fake rate (all candidates, fitted pT)",
        "binomial",
        "candidates of fitted pT above the cut, or whose fit failed, not DM-matched to any particle / such candidates",
    ),
    **{name: metric for style in ACORN_STYLES for n in ACORN_LENGTHS for name, metric in _acorn(style, n).items()},
    **_maskformer("", ""),
    **_maskformer("_postfilter", ", after hit filter"),
    "trackml_score": Metric(
        "TrackML score", "ratio", "weight of majority hits in clusters with P > 1/2 and E > 1/2 / weight of these hits"
    ),
    "fit_accuracy": Metric("FitAccuracy", "ratio", "majority hits in clusters with P, E > 1/2 / hits of particles"),
    "fit_accuracy_all": Metric("FitAccuracy (all hits)", "ratio", "same numerator / all hits, noise included"),
    "coverage": Metric("Coverage", "ratio", "hits in candidates / hits"),
    "coverage_target": Metric("Coverage of target hits", "ratio", "hits of targets in candidates / hits of targets"),
    "vertex_efficiency": Metric(
        "Vertex efficiency",
        "binomial",
        f"true vertices with a found one within {VERTEX_WINDOW:g} mm / true primary vertices of >= 2 prompt targets",
    ),
    "vertex_fake_rate": Metric(
        "Vertex fake rate",
        "binomial",
        f"found vertices without a true one, of any momentum, within {VERTEX_WINDOW:g} mm / found vertices",
    ),
    "n_hits": Metric("Hits per event", "count", "hits"),
    "n_noise": Metric("Noise hits per event", "count", "hits of no particle"),
    "n_targets": Metric("Target particles per event", "count", "targets"),
    "n_clusters": Metric("Clusters per event", "count", "clusters of any size"),
    "n_candidates": Metric("Candidates per event", "count", "candidates"),
    "n_candidates_pt": Metric(
        "Candidates above the pT cut per event", "count", "candidates of fitted pT above the cut"
    ),
    "n_fiducial": Metric("Fiducial candidates per event", "count", "fiducial candidates"),
}
