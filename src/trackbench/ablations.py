"""What the workflow configuration says about ablations: rows compared by the settings in which they differ.

An *ablation* (``collisions.ablations``) is a list of rows of ``collisions.trackers``. How a row is called is read off
its settings and those of its model, defaults included, so that no figure can call it by what it is not. Light on
purpose, like ``learning_config``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from trackbench.errors import ConfigError, describe
from trackbench.learning_config import find_row, model_settings, rows_of_set
from trackbench.settings import build_dataclass
from trackbench.trackers.base import build_config
from trackbench.training.config import settings_classes

BLOCK_STUDY = ("network.block", "network.serialization")  # x and lines of the published study of blocks
# What a result is shown with, not what it is made with.
_NOT_COMPARED = ("settings.checkpoint", "settings.device", "training.label", "training.device")
_ONE_ORDER = ("zorder", "hilbert", "phi")  # serializations without random directions
_NAMES_ALL = 2  # so many differing settings are all in the name of a row; of more only the changes
_WORDS = {
    "class_weight": "class",
    "focal_weight": "focal",
    "dice_weight": "dice",
    "hit_weight": "hit BCE",
    "nce_weight": "InfoNCE",
    "positive_weight": "weight of target hits",
}


@dataclass(frozen=True)
class AblationRow:
    """One row of an ablation.

    row: its name in ``collisions.trackers``; label: what sets it apart, such as "block 64, lsh"
    tracker: its module; model: whose weights it uses, "" without; trained: label of that model, such as "demo"
    x: its place on the axis of a line figure, None = a row beside; line: the line it belongs to, "" without lines
    """

    row: str
    label: str
    tracker: str
    model: str
    trained: str
    x: float | None = None
    line: str = ""


def ablation_sets(config: Mapping, name: str) -> list[str]:
    """Sets an ablation is shown for: those on which all its rows are run."""
    wanted = set(config["collisions"]["ablations"][name]["rows"])
    return [found for found in config["collisions"]["sets"] if wanted <= set(rows_of_set(config, found))]


def ablations(config: Mapping) -> list[tuple[str, str]]:
    """Every ablation and set it is shown for."""
    return [(name, found) for name in config["collisions"]["ablations"] for found in ablation_sets(config, name)]


def compared_settings(config: Mapping, row: str, set_name: str) -> dict[str, object]:
    """Everything a row is made with on a set, defaults included, without what is tuned.

    Returns such as ``{"network.block": 64, "loss.nce_weight": 4.0, "settings.method": "masks"}``.
    """
    found = find_row(config, row, set_name)
    blocks = {}
    if found.model:
        classes = settings_classes(config["models"][found.model]["task"])
        given = model_settings(config, found.model, set_name)
        blocks = {name: build_dataclass(cls, name, given[name]) for name, cls in classes.items()}
    blocks["settings"] = build_config(found.tracker, found.settings)
    values = {f"{name}.{key}": value for name, block in blocks.items() for key, value in asdict(block).items()}
    return {key: value for key, value in values.items() if key not in _NOT_COMPARED}


def ablation_rows(config: Mapping, name: str, set_name: str) -> list[AblationRow]:
    """Rows of an ablation on a set, in the order of the configuration.

    Rows of the tracker of the first one are called by the settings in which they differ: by all of them if these are
    one or two, else by their changes to the first row, which has its name and all of them. Other rows keep their names.
    """
    block = config["collisions"]["ablations"][name]
    trackers = {row: find_row(config, row, set_name).tracker for row in block["rows"]}
    first = block["rows"][0]
    values = {
        row: compared_settings(config, row, set_name) for row in block["rows"] if trackers[row] == trackers[first]
    }
    labels = _labels(values, first)
    rows = []
    for row in block["rows"]:
        model = config["collisions"]["trackers"][row]["model"]
        trained = model_settings(config, model, set_name)["training"].get("label", "") if model else ""
        known = values.get(row, {})
        line = in_words(block["lines"], known[block["lines"]]) if block["lines"] in known else ""
        place = known.get(block["x"])
        rows.append(AblationRow(row, labels.get(row, row), trackers[row], model or "", trained, place, line))
    return rows


def ablation_remarks(config: Mapping, name: str, set_name: str) -> list[str]:
    """What a reader of an ablation has to know about its settings, a clause each."""
    rows = config["collisions"]["ablations"][name]["rows"]
    known = [compared_settings(config, row, set_name) for row in rows]
    orders = {values.get("network.serialization") for values in known}
    remarks = []
    if fixed := [order for order in _ONE_ORDER if order in orders]:
        remarks.append(f"{', '.join(fixed)}: one order for all heads, rounds and layers; lsh has one for each")
    if len({values["network.overlap"] for values in known if "network.overlap" in values}) > 1:
        remarks.append("with overlap losses of the decoder are summed over twice as many windows")
    return remarks


def in_words(key: str, value: object) -> str:
    """Name the value of a setting: "block 64", "lsh", "no queries", "overlap", "no InfoNCE"."""
    name = key.rpartition(".")[2]
    word = _WORDS.get(name, name.replace("_", " "))
    if isinstance(value, bool):
        return word if value else f"no {word}"
    if isinstance(value, str):
        return f"no {word}" if value in ("", "none") else value
    if name in _WORDS and value == 0:
        return f"no {word}"
    return f"{word} {value:g}" if isinstance(value, int | float) else f"{word} {value}"


def _labels(values: Mapping[str, Mapping], first: str) -> dict[str, str]:
    keys = list(dict.fromkeys(key for known in values.values() for key in known))
    differing = [key for key in keys if len({known.get(key) for known in values.values()}) > 1]
    differing.sort(key=lambda key: not _is_number(values[first].get(key)))  # "block 64, lsh"
    labels = {}
    for row, known in values.items():
        shown = differing
        if len(differing) > _NAMES_ALL:
            shown = [key for key in differing if known.get(key) != values[first].get(key)]
        labels[row] = ", ".join(in_words(key, known.get(key)) for key in shown) or row
    if len(differing) > _NAMES_ALL:
        labels[first] = f"{first}: " + ", ".join(in_words(key, values[first].get(key)) for key in differing)
    return labels


def check_ablations(config: Mapping) -> None:
    """Check ``collisions.ablations`` beyond what the schema says. Raises ConfigError."""
    for name, block in config["collisions"]["ablations"].items():
        where, known = f"config key collisions.ablations.{name}", config["collisions"]["trackers"]
        for row in block["rows"]:
            if row not in known:
                expected = "rows of collisions.trackers, some of " + (", ".join(known) or "none")
                raise ConfigError(describe(f"{where}.rows", f"value '{row}'", expected))
        sets = ablation_sets(config, name)
        if not sets:
            expected = "rows without a model, or whose models are trained on the same set"
            raise ConfigError(describe(f"{where}.rows", "no set on which all of them are run", expected))
        for set_name in sets:
            _check_axes(config, where, block, set_name)
            _check_differ(config, where, ablation_rows(config, name, set_name), set_name)


def _check_axes(config: Mapping, where: str, block: Mapping, set_name: str) -> None:
    if block["lines"] is not None and block["x"] is None:
        raise ConfigError(describe(f"{where}.lines", "given without x", "both, or x alone"))
    values = compared_settings(config, block["rows"][0], set_name)
    numbers = [key for key, value in values.items() if _is_number(value)]
    for key, allowed in (("x", numbers), ("lines", list(values))):
        if block[key] is not None and block[key] not in allowed:
            kind = "a number among" if key == "x" else "one of"
            expected = f"{kind} the settings of the first row: {', '.join(allowed)}"
            raise ConfigError(describe(f"{where}.{key}", f"value '{block[key]}'", expected))


def _check_differ(config: Mapping, where: str, rows: list[AblationRow], set_name: str) -> None:
    seen: dict[tuple, str] = {}
    for found in rows:
        values = (found.tracker, *sorted(compared_settings(config, found.row, set_name).items()))
        if values in seen:
            what = f"rows '{seen[values]}' and '{found.row}' have the same settings"
            raise ConfigError(describe(f"{where}.rows", what, "rows that differ"))
        seen[values] = found.row
    places: dict[tuple, str] = {}
    for found in (found for found in rows if found.x is not None):
        place = (found.x, found.line)
        if place in places:
            what = f"rows '{places[place]}' and '{found.row}' are at the same place"
            raise ConfigError(describe(f"{where}.x", what, "x and lines that tell the rows apart"))
        places[place] = found.row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
