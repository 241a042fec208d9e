"""What a perfect network would find, the ceilings of EncReg and EncCla, and how errors of its outputs lower them.

Truth is used here, so these are no trackers: they write files of track candidates that are evaluated like those of
trackers. HDBSCAN has EncReg's settings for 10-50 and 200-500 tracks, the same for all, as that of the floor.
Sources: Dobreva, MSc thesis "Translating Hits to Tracks" (EncReg; the study of label noise); TrackFormers-Models
(EncCla).
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import pandas as pd

from trackbench.data.hits import Hits
from trackbench.data.shards import read_events
from trackbench.data.tracks import Tracks
from trackbench.data.truth import Truth
from trackbench.errors import ConfigError, InputError, describe
from trackbench.evaluation.metrics import evaluate_event
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.trackformers import event_mean
from trackbench.files import atomic_path
from trackbench.runner import TracksWriter
from trackbench.trackers.hit_angles import hit_angles
from trackbench.training.bins import QuantileBins
from trackbench.training.targets import KINDS, N_TARGETS, hit_targets

MIN_CLUSTER_SIZE, MIN_SAMPLES = 5, 2
TARGET_CEILINGS = {"true_targets": "charge", "true_targets_q_over_pt": "q_over_pt"}  # name -> kind of targets
# true_classes_<n_phi>x<n_theta>x<n_p>: quantile bins of phi, theta and |p|; the two charges double their product, so
# that 30x30x3 are the 5,400 classes of the published EncCla for 10-50 tracks.
_CLASSES = re.compile(r"true_classes_([1-9]\d*)x([1-9]\d*)x([1-9]\d*)")
CEILINGS = (*TARGET_CEILINGS, "true_classes_30x30x3", "true_classes_15x15x3")  # of any study; others can be asked for

ALL_PARTICLES = TruthSelection(pt_min=0.0, eta_max=float("inf"), min_layers=1, layer_rule="hits")
NOISE_COLUMNS = ("targets", "scale", "score", "score_lo", "score_hi", "dm", "n_events", "source")
MEASURED = "measured"
FLOOR_TARGETS = "hit angles"  # targets of the row of the floor
_STAGE = 3  # keeps this random stream apart from others made of the same seed

log = logging.getLogger(__name__)


def write_ceilings(
    index_csv: str | os.PathLike, out: Mapping[str, tuple[str | os.PathLike, str | os.PathLike]]
) -> None:
    """Write the track candidates of ceilings for the test events of a sample.

    index_csv: index of the sample; class bins are fitted on its training events
    out: ceiling, see ``ceiling_labels`` -> tracks file (``event_id hit_id track_id`` as of a tracker) and parameters
        file (no rows); all are written or none
    track_id is the number of the cluster, or the class itself; particles of one class merge.
    Raises ConfigError for an unknown name, InputError without test events, or training events if bins are needed.
    """
    binned = [name for name in out if class_counts(name)]
    bins = fit_class_bins((truth for _, truth in read_events(index_csv, "train")), binned) if binned else {}
    n_events = 0
    with ExitStack() as stack:
        writers = {}
        for name, paths in out.items():
            temporary = [stack.enter_context(atomic_path(path)) for path in paths]
            writers[name] = stack.enter_context(TracksWriter(*temporary))
        for hits, truth in read_events(index_csv, "test"):
            n_events += 1
            for name, writer in writers.items():
                writer.write(hits, Tracks(ceiling_labels(name, truth, bins)))
        if not n_events:
            raise InputError(describe(index_csv, "no test events", "at least one"))
    log.info("%s of %d events", ", ".join(out), n_events)


def ceiling_labels(name: str, truth: Truth, bins: Mapping[str, QuantileBins]) -> np.ndarray:
    """Label the hits of one event by the true outputs of a network.

    name: "true_targets" or "true_targets_q_over_pt" = clusters of the true outputs of EncReg;
        "true_classes_<n_phi>x<n_theta>x<n_p>" = true classes of an EncCla with so many bins of phi, theta and |p|,
        2 n_phi n_theta n_p classes
    bins: name of a ceiling of classes -> its bins, of ``fit_class_bins``
    Returns (n,) int64, -1 = noise or unassigned. Raises ConfigError for an unknown name.
    """
    if class_counts(name):
        return bins[name].classes(truth)
    return _cluster(hit_targets(truth, TARGET_CEILINGS[name]))


def class_counts(name: str) -> tuple[int, int, int] | None:
    """Bins of phi, theta and |p| of a ceiling of classes, None for one of targets.

    Raises ConfigError for a name that is neither.
    """
    if name in TARGET_CEILINGS:
        return None
    found = _CLASSES.fullmatch(name)
    if not found:
        expected = ", ".join(TARGET_CEILINGS) + " or true_classes_<n_phi>x<n_theta>x<n_p>"
        raise ConfigError(describe("ceilings", f"name {name!r}", expected))
    n_phi, n_theta, n_p = map(int, found.groups())
    return n_phi, n_theta, n_p


def fit_class_bins(truths: Iterable[Truth], names: Sequence[str]) -> dict[str, QuantileBins]:
    """Fit the bins of ceilings of classes on training events, read once. Returns name -> bins."""
    return dict(zip(names, QuantileBins.fit_all(truths, [class_counts(name) for name in names]), strict=True))


def label_noise_table(
    events: Iterable[tuple[Hits, Truth]],
    scales: Sequence[float],
    targets: Sequence[str] = KINDS,
    seed: int = 0,
    source: str = MEASURED,
) -> pd.DataFrame:
    """Add Laplace noise to the true targets, cluster them and score the clusters: the price of wrong outputs.

    events: hits and truth of the events of a data set
    scales: scale b of the noise in every output (its standard deviation is sqrt(2) b), >= 0
    targets: kinds of targets of ``hit_targets``
    seed: of the noise, which is the same for all scales and targets of an event but for its size
    source: what the table says about the origin of its rows
    Returns one row per kind and scale with ``NOISE_COLUMNS``: score = TrackML score, dm = clusters of at least 3 hits
    matched by double majority / particles with hits; both unweighted means over events. score_lo, score_hi: score
    minus and plus its standard error, NaN for one event. The last row is the floor of the same events, hit angles
    clustered alike: targets ``FLOOR_TARGETS``, scale NaN.
    Raises ConfigError for a wrong scale or kind, InputError without events.
    """
    for scale in scales:
        if not (np.isfinite(scale) and scale >= 0):
            raise ConfigError(describe("subevents.label_noise", f"value {scale}", "finite numbers >= 0"))
    found = {(kind, scale): [] for kind in targets for scale in scales}
    floor = []
    n_events = 0
    for hits, truth in events:
        n_events += 1
        unit = np.random.default_rng([seed, truth.event_id, _STAGE]).laplace(size=(len(truth), N_TARGETS))
        exact = {kind: hit_targets(truth, kind) for kind in targets}
        floor.append(_scores(_cluster(hit_angles(hits.xyz)), truth))
        for (kind, scale), scores in found.items():
            scores.append(_scores(_cluster(exact[kind] + scale * unit), truth))
    if not n_events:
        raise InputError(describe("label noise", "no events", "at least one"))
    rows = [{"targets": kind, "scale": scale, **_summary(scores)} for (kind, scale), scores in found.items()]
    rows.append({"targets": FLOOR_TARGETS, "scale": np.nan, **_summary(floor)})
    return pd.DataFrame(rows, columns=list(NOISE_COLUMNS)).assign(source=source)


def _cluster(outputs: np.ndarray) -> np.ndarray:
    """HDBSCAN of the outputs of one event. outputs: (n, d), NaN for noise. Returns (n,) int64, noise -1."""
    from trackbench.trackers.layers.latent_clustering import cluster_points

    labels = np.full(len(outputs), -1, dtype=np.int64)
    real = np.isfinite(outputs).all(axis=1)
    options = {"min_cluster_size": MIN_CLUSTER_SIZE, "min_samples": MIN_SAMPLES}
    labels[real] = cluster_points(outputs[real], "hdbscan", **options)
    return labels


def _scores(labels: np.ndarray, truth: Truth) -> list[tuple[float, float]]:
    """TrackML score and DM of one event, each as numerator and denominator."""
    counts = evaluate_event(labels, truth, ALL_PARTICLES).counts
    return [counts["trackml_score"], counts["dm"]]


def _summary(scores: list) -> dict[str, object]:
    ratios = np.array(scores, dtype=np.float64)  # (events, 2 metrics, numerator and denominator)
    (score, error, n_events), (dm, _, _) = (
        event_mean(pd.DataFrame(ratios[:, i], columns=["num", "den"])) for i in range(2)
    )
    numbers = {"score": score, "score_lo": score - error, "score_hi": score + error, "dm": dm}
    return {**numbers, "n_events": n_events}
