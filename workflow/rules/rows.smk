# Helpers of the rules on sub-events of few tracks and on sets of whole events: rows, their weights and settings, files
# of the studies.
from dataclasses import asdict

from trackbench.ablations import (
    BLOCK_STUDY,
    ablation_remarks,
    ablation_rows,
    ablations,
)
from trackbench.collisions import post_processing_sets, reference_of, row_names
from trackbench.learning_config import (
    FLOOR,
    Row,
    block_of,
    class_bins,
    find_row,
    matrix_rows,
    model_settings,
    n_gpus,
    rows_of_set,
    set_range,
    sets_with_weights,
    training_threads,
)
from trackbench.training.config import TrainingConfig

SETS = list(SUBEVENTS["sets"])
FIRST_SET = (
    SETS[0] if SETS else "none"
)  # whose manifest names the data of figures about several sets
# What true targets and true classes give: the published binnings, and those of the classifiers that are trained.
CEILINGS = [
    "true_targets",
    "true_targets_q_over_pt",
    *dict.fromkeys(
        f"true_classes_{n_phi}x{n_theta}x{n_p}"
        for n_phi, n_theta, n_p in [(30, 30, 3), (15, 15, 3), *class_bins(config)]
    ),
]
CLASS_CEILING = CEILINGS[2]  # of the published 5,400 classes
# (model, set) of every network that is trained
TRAINED = [
    (name, trained_on)
    for name, model in config["models"].items()
    for trained_on in model["sets"]
]


def has_curve(model, trained_on):
    """True if a training is validated more than once, so that there is a curve to show; a control is not."""
    settings = TrainingConfig(**model_settings(config, model, trained_on)["training"])
    return settings.steps > settings.validate_every


CURVES = [trained for trained in TRAINED if has_curve(*trained)]
# The first phase has no cuts: every particle with a hit is a target.
SUBEVENT_SELECTION = {
    "pt_min": 0.0,
    "eta_max": float("inf"),
    "min_layers": 1,
    "layer_rule": "hits",
}
# Sets that networks are trained on, whose manifests name the data of their loss curves.
TRAINED_SETS = list(dict.fromkeys(name for _, name in TRAINED))
COLLISION_CATEGORY = (
    "Whole events"
    if any(block["source"] == "data" for block in COLLISIONS["sets"].values())
    else "Low pile-up"
)  # of the report
COLLISION_FIGURES = [
    "overview",
    "differences",
    *(f"{kind}_{x}" for kind in ("efficiency", "fake_rate") for x in ("pt", "eta")),
]
POST_PROCESSING = post_processing_sets(config)
ABLATIONS = ablations(config)  # (name, set)
KMEANS_TURNS = 3  # of the study of post-processing
MASK_FIGURES = ["masks", "masks_scaling"]
LATENCY = SUBEVENTS["latency"]
LATENCY_EVENTS = 20  # parents whose tracks are drawn
LATENCY_MEMORY_MB = 16000  # numbers of tracks that may need more are left out
LATENCY_LIMIT_S = 60  # a call that takes longer is the last of its row
PREDICTED_EVENTS = 500  # of the maps and residuals
DECOMPOSITION = SUBEVENTS["decomposition"]


def sample_of(set_name):
    """Sample of a set: of whole events it has the name of the set."""
    return set_name if set_name in COLLISION_SETS else f"tracks-{set_name}"


def set_of(wildcards):
    """Set of a sample, the wildcard's."""
    return wildcards.sample.removeprefix("tracks-")


def subevent_settings(wildcards):
    """SubeventConfig values of a sample of sub-events."""
    low, high = set_range(set_of(wildcards))
    given = SUBEVENTS["sets"][set_of(wildcards)]
    return {"low": low, "high": high, **given, "seed": config["seed"]}


def row_of(wildcards):
    """Row behind the wildcards sample and tracker."""
    return find_row(config, wildcards.tracker, set_of(wildcards))


def weights_file(model, trained_on):
    """Weights of a model trained on a set."""
    return f"results/{RUN}/models/{model}/{trained_on}.pt"


def row_weights(wildcards):
    """Weights that the row needs, or nothing."""
    row = row_of(wildcards)
    return weights_file(row.model, row.trained_on) if row.model else []


def row_settings(wildcards):
    """Settings of the row, with the path of its weights."""
    row = row_of(wildcards)
    if not row.model:
        return row.settings
    return {**row.settings, "checkpoint": weights_file(row.model, row.trained_on)}


def row_tuned(wildcards):
    """File with the tuned settings of a row, or nothing if it is not tuned.

    They are tuned on the set the weights were trained on, not on the one that is tested.
    """
    return tuned_file(wildcards.tracker, row_of(wildcards), set_of(wildcards))


def tuned_file(name, row, set_name):
    """The same for a row given by name; set_name: of the tuning if the row has no weights."""
    if set_name in COLLISION_SETS:
        known = COLLISIONS["sets"][set_name]["events"]["val"]
    else:
        known = SUBEVENTS["parents"]["events"]["val"]
    events = min(config[block_of(config, set_name)]["tuning"]["events"], known)
    if not events or not options_to_tune(row):
        return []
    sample = sample_of(row.trained_on or set_name)
    return f"results/{RUN}/tuned/{sample}/{name.partition('@')[0]}.json"


def gpus(model, trained_on):
    """GPUs of a job that uses a network, if any."""
    return n_gpus(config, model, trained_on)


def row_gpus(wildcards):
    """GPUs of a job that runs a row."""
    row = row_of(wildcards)
    return gpus(row.model, row.trained_on)


def row_modules(row):
    """Modules a row loads by name: its tracker, and the clusterers it or its network works with."""
    names = {row.tracker, row.settings.get("inside")}
    if row.model:
        names.add(mask_clusterer(row.model, row.trained_on))
    return [f"trackbench.trackers.{name}" for name in sorted(filter(None, names))]


def mask_clusterer(model, trained_on):
    """Clusterer of the network's attention mask, or nothing."""
    network = model_settings(config, model, trained_on)["network"]
    if network.get("mask") != "cluster":
        return None
    return network.get("mask_clusterer", "density_peaks")


def row_digest(script):
    """Digest of the code behind a script that loads the tracker of a row."""
    return lambda wildcards: digest(script, *row_modules(row_of(wildcards)))


def train_digest(wildcards):
    """Digest of the code that trains a model."""
    clusterer = mask_clusterer(wildcards.model, wildcards.set)
    return digest(
        "train.py", *([f"trackbench.trackers.{clusterer}"] if clusterer else [])
    )


def row_kind(row):
    """Kind of a row in the table of the first phase."""
    if row in CEILINGS:
        return "ceiling"
    if row == FLOOR:
        return "floor"
    return "trained" if SUBEVENTS["trackers"][row]["model"] else "untrained"


def row_label(row, trained_on):
    """Label of the model behind a row, such as "demo"."""
    entry = SUBEVENTS["trackers"].get(row.partition("@")[0])
    if entry is None or not entry["model"]:
        return ""
    blocks = model_settings(config, entry["model"], trained_on)
    return blocks["training"].get("label", "")


def evaluated_files(set_name, row, kind):
    """Files the table of the first phase is made of; ceilings are not timed."""
    metrics = f"results/{RUN}/metrics/{sample_of(set_name)}/{row}"
    files = [f"{metrics}-counts.csv", f"{metrics}-particles.parquet"]
    if kind == "ceiling":
        return files
    tracks = f"results/{RUN}/tracks/{sample_of(set_name)}/{row}"
    return [*files, f"{tracks}-timing.csv", f"{tracks}-run.json"]


def shown_rows(set_name):
    """Rows of the figures of a set: what is run on it, and the ceiling of true targets."""
    return [*rows_of_set(config, set_name), CEILINGS[0]]


def shown_labels(set_name):
    """Row -> label of its model, rows without one left out."""
    labels = {row: row_label(row, set_name) for row in rows_of_set(config, set_name)}
    return {row: label for row, label in labels.items() if label}


def predicted_rows(set_name):
    """Rows of the set whose network outputs are compared with the truth."""
    return [
        row for row in rows_of_set(config, set_name) if row in SUBEVENTS["predictions"]
    ]


def sets_with_predictions():
    """Sets for which every row of the maps is trained: the rule makes one map per row."""
    wanted = SUBEVENTS["predictions"]
    return [name for name in SETS if wanted and predicted_rows(name) == wanted]


def timed_row(name, set_name=None):
    """Row of a name: weights of the set it names, else of ``set_name`` or of the first its model is trained on."""
    entry = SUBEVENTS["trackers"][name.partition("@")[0]]
    sets = sets_with_weights(config, entry["model"]) if entry["model"] else []
    default = set_name if set_name in sets or not sets else sets[0]
    return find_row(config, name, default or SETS[0])


def row_inputs(name, row, set_name):
    """Inputs of a study that runs a row: its weights and its tuned settings."""
    weights = weights_file(row.model, row.trained_on) if row.model else []
    return {"weights": weights, "tuned": tuned_file(name, row, set_name)}


def latency_row(wildcards):
    """Row that is timed against the number of tracks."""
    return timed_row(wildcards.tracker)


def latency_inputs(wildcards):
    """Its weights and tuned settings."""
    return row_inputs(wildcards.tracker, latency_row(wildcards), SETS[0])


def decomposition_row():
    """Row that is run in phi sectors; an empty one if the study is off."""
    name = DECOMPOSITION["tracker"]
    return timed_row(name, DECOMPOSITION["set"]) if name else Row("", {}, None, None)


def decomposition_inputs():
    """Its weights and tuned settings."""
    name = DECOMPOSITION["tracker"]
    return row_inputs(name, decomposition_row(), DECOMPOSITION["set"]) if name else {}


def decomposition_name():
    """Name of that row with what its network is, as figures show it."""
    row = decomposition_row()
    if not row.model:
        return DECOMPOSITION["tracker"]
    name = DECOMPOSITION["tracker"].partition("@")[0]
    label = row_label(name, row.trained_on)
    return f"{name} ({label + ', ' if label else ''}trained on {row.trained_on})"


def decomposition_digest():
    """Code behind that row."""
    name = decomposition_row().tracker
    return digest(
        "decomposition.py", *([f"trackbench.trackers.{name}"] if name else [])
    )
