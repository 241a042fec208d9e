"""All metrics of one event from one label vector and one truth selection.

Numerators and denominators are kept apart, so that ratios can be pooled over events and bootstrapped;
``definitions.METRICS`` says what each name means.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trackbench.data.tracks import TrackParameters
from trackbench.data.truth import Truth
from trackbench.errors import InputError, describe
from trackbench.evaluation.conventions import (
    MASKFORMER_SELECTION,
    Counts,
    acorn_counts,
    maskformer_counts,
    maskformer_postfilter_counts,
)
from trackbench.evaluation.matching import NOISE, Matching, match_clusters
from trackbench.evaluation.residuals import check_parameters, residual_frame
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.vertices import evaluate_vertices
from trackbench.fitting.vertices import find_vertices


@dataclass(frozen=True)
class EventResult:
    """The result of ``evaluate_event``.

    counts: metric name -> (numerator, denominator)
    particles: one row per target: event_id particle_id pt eta phi z0 vr n_hits n_layers n_matched dm perfect
        technical; vr = transverse distance of the production vertex from the beam line [mm]; n_matched = hits of
        the particle in the cluster, of any size, that it matches by double majority, 0 without
    candidates: one row per candidate: event_id track_id n_hits pt eta phi z0 fiducial fake_purity fake_dm fit_pt
        fit_eta; pt eta phi z0 of the majority particle, NaN if noise leads; fit_pt fit_eta of the fit, NaN
        without. The fakes are flagged for every candidate (a candidate led by noise is both), so restrict
        to ``fiducial`` for the rates of that name
    residuals: ``residuals.RESIDUAL_COLUMNS`` of the candidates matched to a target by double majority
    vertices: ``vertices.VERTEX_COLUMNS``, found and true ones; both None without track parameters
    """

    event_id: int
    counts: Counts
    particles: pd.DataFrame
    candidates: pd.DataFrame
    residuals: pd.DataFrame | None = None
    vertices: pd.DataFrame | None = None

    def value(self, metric: str) -> float:
        """Return numerator / denominator of ``metric``, NaN for an empty denominator."""
        num, den = self.counts[metric]
        return num / den if den else float("nan")


def evaluate_event(
    labels: np.ndarray,
    truth: Truth,
    selection: TruthSelection | None = None,
    kept: np.ndarray | None = None,
    parameters: TrackParameters | None = None,
) -> EventResult:
    """Evaluate the track candidates of one event by every convention at once.

    labels: (n,) int, one per row of ``truth``, negative = unassigned
    truth: its rows are the hit collection that is scored; targets need at least one hit in it
    selection: which particles are targets (default: the headline selection, pT >= 0.9 GeV)
    kept: (n,) bool, hits that survived the tracker's own hit filter; adds the ``_postfilter`` metrics
    parameters: fits of the candidates, row i of label i; adds the metrics that need them, residuals and vertices
    Raises InputError if labels, truth and parameters do not fit together.
    """
    selection = selection or TruthSelection()
    labels = np.asarray(labels)
    match = match_clusters(labels, truth)
    target = selection.selected(truth.particles) & (match.seen > 0)
    groups = _ClusterGroups.build(match, target, selection.min_cluster_size)
    counts = {
        **_headline_counts(match, target, groups),
        **acorn_counts(match, target),
        **maskformer_counts(match, MASKFORMER_SELECTION.selected(truth.particles) & (match.seen > 0)),
        **_score_counts(match, truth),
        **_hit_counts(match, target, groups, len(truth)),
    }
    if kept is not None:
        counts.update(maskformer_postfilter_counts(labels, truth, _check_kept(kept, truth)))
    particles = _target_frame(match, truth, target, groups)
    candidates = _candidate_frame(match, truth, groups)
    if parameters is None:
        return EventResult(truth.event_id, counts, particles, candidates)
    check_parameters(parameters, match.labels, truth.event_id)
    candidates = _with_fits(candidates, parameters)
    counts.update(_fitted_counts(candidates, selection.pt_min))
    residuals = residual_frame(match, truth, groups.fiducial & groups.double_majority, parameters)
    vertex_counts, vertices = evaluate_vertices(find_vertices(parameters), truth, target, selection)
    return EventResult(truth.event_id, counts | vertex_counts, particles, candidates, residuals, vertices)


@dataclass(frozen=True)
class _ClusterGroups:
    """Masks over clusters, each (c,) bool."""

    candidate: np.ndarray
    fiducial: np.ndarray
    double_majority: np.ndarray
    perfect: np.ndarray
    lhc: np.ndarray

    @classmethod
    def build(cls, match: Matching, target: np.ndarray, min_cluster_size: int) -> "_ClusterGroups":
        candidate = match.size >= min_cluster_size
        # Thresholds in integers: exact at P = 1/2, 3/4 and 0.99.
        return cls(
            candidate=candidate,
            fiducial=candidate & np.append(target, False)[match.majority],  # NOISE = -1 reads False
            double_majority=match.double_majority,
            perfect=(100 * match.shared > 99 * match.size) & (match.shared == match.majority_hits),
            lhc=4 * match.shared > 3 * match.size,
        )


def _headline_counts(match: Matching, target: np.ndarray, groups: _ClusterGroups) -> Counts:
    """gnn_tracking and HEPTv2 conventions: only candidates led by a target count."""
    fiducial = groups.fiducial
    n_targets, n_fiducial = int(target.sum()), int(fiducial.sum())
    n_candidates = int(groups.candidate.sum())
    dm = int((fiducial & groups.double_majority).sum())
    perfect = int((fiducial & groups.perfect).sum())
    lhc = int((fiducial & groups.lhc).sum())
    n_pure = int((fiducial & match.pure).sum())
    n_found = np.unique(match.majority[fiducial & match.pure]).size
    n_matched = int((groups.candidate & groups.double_majority).sum())
    return {
        "dm": (dm, n_targets),
        "technical": (n_found, n_targets),
        "perfect": (perfect, n_targets),
        "lhc": (lhc, n_fiducial),
        "fake_rate": (n_fiducial - n_pure, n_fiducial),
        "fake_dm": (n_fiducial - dm, n_fiducial),
        "fake_perfect": (n_fiducial - perfect, n_fiducial),
        "fake_lhc": (n_fiducial - lhc, n_fiducial),
        "fake_dm_per_particle": (n_fiducial - dm, n_targets),
        "dup_rate": (n_pure - n_found, n_found),
        "fake_all": (n_candidates - n_matched, n_candidates),
    }


def _score_counts(match: Matching, truth: Truth) -> Counts:
    """TrackML score and FitAccuracy: clusters of any size, all particles."""
    good = match.double_majority
    shared = int(match.shared[good].sum())
    # Weights of a part of the event (pixel hits, a sector) are renormalised to the hits given.
    return {
        "trackml_score": (float(match.majority_weight[good].sum()), float(truth.weight.sum())),
        "fit_accuracy": (shared, len(truth) - match.n_noise),
        "fit_accuracy_all": (shared, len(truth)),
    }


def _hit_counts(match: Matching, target: np.ndarray, groups: _ClusterGroups, n_hits: int) -> Counts:
    in_candidate = groups.candidate[match.pair_cluster]
    of_target = np.append(target, False)[match.pair_row]
    return {
        "coverage": (int(match.size[groups.candidate].sum()), n_hits),
        "coverage_target": (int(match.pair_shared[in_candidate & of_target].sum()), int(match.seen[target].sum())),
        "n_hits": (n_hits, 1),
        "n_noise": (match.n_noise, 1),
        "n_targets": (int(target.sum()), 1),
        "n_clusters": (len(match.labels), 1),
        "n_candidates": (int(groups.candidate.sum()), 1),
        "n_fiducial": (int(groups.fiducial.sum()), 1),
    }


def _kinematics(particles: pd.DataFrame, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Columns pt [GeV], eta, phi [rad], z0 [mm] of particles; NaN for row ``NOISE``.

    z0 is the z of the straight line through the production vertex at its point closest to the beam line:
    z0 = vz - (vx cos(phi) + vy sin(phi)) sinh(eta). It is vz for prompt particles; the bending between
    vertex and beam line is neglected.
    """
    names = ("pt", "eta", "phi", "vx", "vy", "vz")
    pt, eta, phi, vx, vy, vz = (np.append(particles[name].to_numpy(np.float64), np.nan)[rows] for name in names)
    with np.errstate(over="ignore", invalid="ignore"):  # a particle along the beam has no z0
        z0 = vz - (vx * np.cos(phi) + vy * np.sin(phi)) * np.sinh(eta)
    return {"pt": pt, "eta": eta, "phi": phi, "z0": z0}


def _target_frame(match: Matching, truth: Truth, target: np.ndarray, groups: _ClusterGroups) -> pd.DataFrame:
    rows = np.flatnonzero(target)
    particles = truth.particles

    def found(clusters: np.ndarray) -> np.ndarray:
        flags = np.zeros(len(particles), dtype=bool)
        flags[match.majority[clusters & groups.fiducial]] = True
        return flags[rows]

    good = match.double_majority  # at most one cluster per particle
    n_matched = np.zeros(len(particles), dtype=np.int64)
    n_matched[match.majority[good]] = match.shared[good]
    vertex = particles[["vx", "vy"]].to_numpy(np.float64)[rows]
    columns = {
        "event_id": np.full(rows.size, truth.event_id, dtype=np.int64),
        "particle_id": particles["particle_id"].to_numpy(np.int64)[rows],
        **_kinematics(particles, rows),
        "vr": np.hypot(vertex[:, 0], vertex[:, 1]),
        "n_hits": particles["n_hits"].to_numpy(np.int64)[rows],
        "n_layers": particles["n_layers"].to_numpy(np.int64)[rows],
        "n_matched": n_matched[rows],
        "dm": found(groups.double_majority),
        "perfect": found(groups.perfect),
        "technical": found(match.pure),
    }
    return pd.DataFrame(columns)


def _candidate_frame(match: Matching, truth: Truth, groups: _ClusterGroups) -> pd.DataFrame:
    kept = groups.candidate
    columns = {
        "event_id": np.full(int(kept.sum()), truth.event_id, dtype=np.int64),
        "track_id": match.labels[kept],
        "n_hits": match.size[kept],
        **_kinematics(truth.particles, match.majority[kept]),
        "fiducial": groups.fiducial[kept],
        "fake_purity": ~match.pure[kept] | (match.majority[kept] == NOISE),
        "fake_dm": ~groups.double_majority[kept],
        "fit_pt": np.nan,
        "fit_eta": np.nan,
    }
    return pd.DataFrame(columns)


def _with_fits(candidates: pd.DataFrame, parameters: TrackParameters) -> pd.DataFrame:
    """Fill in fit_pt [GeV] and fit_eta of the candidates."""
    fits = parameters.take(candidates["track_id"].to_numpy())
    theta = fits.to_frame(0)["theta"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):  # a fit may have failed
        return candidates.assign(fit_pt=fits.pt, fit_eta=-np.log(np.tan(theta / 2)))


def _fitted_counts(candidates: pd.DataFrame, pt_min: float) -> Counts:
    """The fake rate of all candidates above a cut on the fitted pT, which no truth enters; a failed fit counts."""
    above = (candidates["fit_pt"] > pt_min) | candidates["fit_pt"].isna()
    n_above = int(above.sum())
    return {"fake_all_pt": (int((above & candidates["fake_dm"]).sum()), n_above), "n_candidates_pt": (n_above, 1)}


def _check_kept(kept: np.ndarray, truth: Truth) -> np.ndarray:
    kept = np.asarray(kept)
    if kept.dtype != bool or kept.shape != (len(truth),):
        what = f"{kept.dtype} array of shape {kept.shape}"
        raise InputError(describe(f"kept hits of event {truth.event_id}", what, f"bool of shape ({len(truth)},)"))
    return kept
