"""Sentences for the captions of the report, from the configuration of the workflow.

Captions are known before any job has run, so they say what was asked for; tables and figures themselves
say what the events are (``evaluation.sample``). The text is reStructuredText.
"""

from collections.abc import Callable, Iterable, Mapping

from trackbench.collisions import simulation_of
from trackbench.data.prepare import DataSelection
from trackbench.derived_sets import origin_of, truth_filter_of, weights_set
from trackbench.evaluation.sample import unusual_detector
from trackbench.evaluation.selection import TruthSelection
from trackbench.evaluation.surfaces import SCORED_TRACKS, hits_of_regions

_WALL_CLOCK = (
    "Wall clock from host arrays to host labels, one thread, first call (imports, compilation) excluded. Under the "
    "default profile no other job of the workflow runs beside a timed one; under another profile one may, and so may "
    "other users of the machine: for clean numbers run with --cores 1 on an idle one."
)


def about(kind: str, config: Mapping) -> str:
    """Say what one kind of result was made from.

    kind: "comparison" (tables and figures of all test events), "surfaces", "event" (one event drawn),
        "latency", "stages", "tiled", "simulation", "effects" (variations of the simulation), "subevents" (sets of few
        tracks) or "training" (all sets that networks are trained on)
    config: the complete workflow configuration
    Returns sentences in reStructuredText. Raises KeyError for another kind.
    """
    return _KINDS[kind](config).replace("|", r"\|")


def about_set(name: str, config: Mapping) -> str:
    """Say what the results of one set of whole events were made from, as ``about`` does. name: of the set."""
    known, events = _of_set(config, name), config["collisions"]["sets"][name]["events"]
    tuned = min(config["collisions"]["tuning"]["events"], events["val"])
    used = [row["model"] for row in config["collisions"]["trackers"].values() if row["model"]]
    trained = {weights_set(config, model, name) for model in used} - {None}
    models = [config["models"][model] for model in used if weights_set(config, model, name)]
    return _sentences(
        f"{_count(events['test'], 'test event')} of the sample {name} ({_data(known)})",
        f"hits used: {_hits(known)}",
        f"particles selected: {TruthSelection(**config['selection']).label()}; no hit is removed by this selection",
        *(_trained_on(name, other, events["train"]) for other in sorted(trained)),
        f"settings are tuned on {_count(tuned, 'validation event')}" if tuned else "",
        _label_note(models),
    ).replace("|", r"\|")


def reconstruction(data: Mapping, padded: bool = True) -> str:
    """Say how reconstruction departs from whole events of their own length; "" if it does not.

    data: the block ``data`` of the configuration; padded: events are padded as it says
    """
    count, overlap = data["sectors"]["count"], data["sectors"]["overlap"]
    parts = [f"reconstructed in {count} phi sectors, overlap {overlap:g}"] if count > 1 else []
    parts += [f"events padded to {data['pad_to']} hits"] if padded and data["pad_to"] is not None else []
    return ", ".join(parts)


def _comparison(config: Mapping) -> str:
    particles = TruthSelection(**config["selection"]).label()
    return _sentences(
        _test_events(config),
        f"hits used: {_hits(config)}",
        reconstruction(config["data"]),
        f"particles selected: {particles}; no hit is removed by this selection",
    )


def _surfaces(config: Mapping) -> str:
    scored = f"scored: {SCORED_TRACKS}, as in the talk and independent of the truth selection of the other tables"
    return _sentences(_test_events(config), f"hits clustered: {hits_of_regions(_hits(config))}", scored)


def _event(config: Mapping) -> str:
    return _sentences(f"One test event ({_data(config)})", f"hits used: {_hits(config)}")


def _latency(config: Mapping) -> str:
    scan = config["scan"]
    samples = f"main sample: {_test_events(config)}"
    if scan["pileup"]:
        pileups = ", ".join(map(str, scan["pileup"]))
        samples += f"; scan: {_count(scan['events'], 'simulated event')} at each pile-up of {pileups}"
    return _sentences(samples, f"hits used: {_hits(config)}", reconstruction(config["data"])) + " " + _WALL_CLOCK


def _stages(config: Mapping) -> str:
    return (
        _sentences(_test_events(config), f"hits used: {_hits(config)}", reconstruction(config["data"]))
        + " "
        + _WALL_CLOCK
    )


def _tiled(config: Mapping) -> str:
    scan = config["scan"]
    sizes = ", ".join(map(str, scan["tiling"]))
    made = (
        f"One test event ({_data(config)}) tiled or thinned to {sizes} hits, {_count(scan['calls'], 'call')} per size"
    )
    how = reconstruction(config["data"], padded=False)
    return _sentences(made, f"hits used: {_hits(config)}", how) + " " + _WALL_CLOCK


def _simulation(config: Mapping) -> str:
    n_events = sum(config["data"]["events"].values())
    what = f"All {_count(n_events, 'event')} of the main sample, whatever their split ({_data(config)})"
    return _sentences(what, "hits of all volumes, noise kept, no selection of hits or particles")


def _effects(config: Mapping) -> str:
    particles = TruthSelection(**config["selection"]).label()
    events = _count(config["effects"]["events"], "simulated event")
    return _sentences(
        f"{events} per row, the same collisions in all of them; where a row says nothing else: {_simulated(config)}",
        f"hits used: {_hits(config)}",
        reconstruction(config["data"]),
        f"particles selected: {particles}; no hit is removed by this selection",
    )


def _subevents(config: Mapping) -> str:
    block = config["subevents"]
    parents = block["parents"]
    events = parents["events"]
    known = {**config, "data": {**config["data"], "simulate": {**config["data"]["simulate"], **parents["simulate"]}}}
    sets = ", ".join(block["sets"])
    return _sentences(
        f"Sub-events of {sets} tracks cut from {events['train']} training, {events['val']} validation and "
        f"{events['test']} test parents ({_data(known)}), split by parent",
        "all hits of the full detector left by the drawn particles, noise removed by truth",
        "targets: all particles with a hit, no cut on pT or eta",
        _label_note(config["models"].values()),
    )


def _training(config: Mapping) -> str:
    texts = [_subevents(config)] if config["subevents"]["sets"] or not config["collisions"]["sets"] else []
    for name, block in config["collisions"]["sets"].items():
        if any(name in model["sets"] for model in config["models"].values()):
            events = f"{block['events']['train']} training and {block['events']['val']} validation events"
            texts.append(_sentences(f"Whole events of {name}: {events} ({_data(_of_set(config, name))})"))
    return " ".join(texts)


def _label_note(models: Iterable[Mapping]) -> str:
    labels = {model["training"].get("label", "") for model in models} - {""}
    return f"networks labelled {' or '.join(sorted(labels))} are not trained to the end" if labels else ""


def _trained_on(name: str, trained_on: str, n_events: int) -> str:
    if trained_on == name:
        return f"networks are trained on {n_events} events of the same sample"
    same = f"the same events as those of {trained_on}"
    return f"{same}, on whose {n_events} training events networks are trained and their settings tuned"


def _of_set(config: Mapping, name: str) -> dict:
    """The configuration with the data of a set of whole events in place of those of the main sample."""
    origin = config["collisions"]["sets"][origin_of(config, name)]
    source = {} if origin["source"] == "data" else {"source": "simulate"}
    values = {**source, "truth_filter": truth_filter_of(config, name), "simulate": simulation_of(config, name)}
    return {**config, "data": {**config["data"], **values}}


_KINDS: dict[str, Callable[[Mapping], str]] = {
    "comparison": _comparison,
    "surfaces": _surfaces,
    "event": _event,
    "latency": _latency,
    "stages": _stages,
    "tiled": _tiled,
    "simulation": _simulation,
    "effects": _effects,
    "subevents": _subevents,
    "training": _training,
}


def _test_events(config: Mapping) -> str:
    return f"{_count(config['data']['events']['test'], 'test event')} ({_data(config)})"


def _data(config: Mapping) -> str:
    """What the main sample is; for local events their manifest knows more, and tables and figures say it."""
    source = config["data"]["source"]
    if source == "kaggle":
        return "TrackML, " + ", ".join(config["data"]["kaggle"]["archives"])
    if source == "local":
        return "local events"
    return _simulated(config)


def _simulated(config: Mapping) -> str:
    known = config["data"]["simulate"]
    hard = "no hard process" if known["hard_process"] == "none" else known["hard_process"]
    spot = f"sigma_z = {known['sigma_z']:g} mm, hit efficiency {known['hit_efficiency']:g}"
    spot = ", ".join([spot, *unusual_detector(known["field"], known["misalignment"])])
    return f"simulated, TrackML-like: {known['pileup']:g} pile-up, {hard}, {spot}"


def _hits(config: Mapping) -> str:
    names = ("detector", "hit_eta_max", "truth_filter")
    label = DataSelection(**{name: config["data"][name] for name in names}).label()
    return f"**{label}**" if config["data"]["truth_filter"] else label


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _sentences(*parts: str) -> str:
    return " ".join(part[0].upper() + part[1:] + "." for part in parts if part)
