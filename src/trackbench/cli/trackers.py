"""``trackbench trackers``: the track finders, what they are and what can be set."""

import argparse
import dataclasses
import inspect
import re
import textwrap

WIDTH = 110
_DOCUMENTED = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.+)$")
_NEXT_ON_LINE = re.compile(r"; (?=\w+(?:, \w+)*: )")  # "low: meaning; high: meaning"


def add_parser(subparsers) -> None:
    """Add the subcommand to the parser of the command."""
    parser = subparsers.add_parser(
        "trackers",
        help="list the trackers and their settings",
        description="List the trackers with their settings, defaults and meaning.",
        epilog="Settings go into the file given to `trackbench reconstruct --config`, one `name: value` per line.",
    )
    parser.add_argument("names", nargs="*", metavar="TRACKER", help="only these (default: all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print one block per tracker."""
    from trackbench.trackers.base import load_module, tracker_names

    blocks = [describe_tracker(load_module(name)) for name in args.names or tracker_names()]
    print("\n\n".join(blocks))


def describe_tracker(module) -> str:
    """Return the text about one tracker: name, first line of its docstring, settings with defaults.

    module: a module of ``trackbench.trackers``
    """
    name = module.__name__.rpartition(".")[2]
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    lines = [f"{name}: {plain(summary)}"]
    meanings = field_docs(module.Config)
    fields = dataclasses.fields(module.Config)
    name_width = max((len(field.name) for field in fields), default=0)
    default_width = max((len(default_text(field)) for field in fields), default=0)
    for field in fields:
        start = f"  {field.name:<{name_width}}  {default_text(field):<{default_width}}  "
        meaning = plain(meanings.get(field.name, ""))
        indent = " " * len(start)
        lines += textwrap.wrap(meaning, WIDTH, initial_indent=start, subsequent_indent=indent) or [start.rstrip()]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Remove the markup of docstrings."""
    return text.replace("``", "")


def default_text(field: dataclasses.Field) -> str:
    """Return the default of a setting the way it is written in YAML."""
    if field.default is not dataclasses.MISSING:
        return _yaml_scalar(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _yaml_scalar(field.default_factory())
    return "(required)"


def _yaml_scalar(value: object) -> str:
    words = {True: "true", False: "false", None: "null"}
    # 1 == True, so look at the type before the value.
    return words[value] if value is None or isinstance(value, bool) else str(value)


def field_docs(config_class: type) -> dict[str, str]:
    """Read the meaning of each setting from the docstrings of the class and its base classes.

    A docstring holds ``name: meaning`` or ``name, other: meaning`` lines, continued on indented lines; a
    semicolon may separate several on one line.
    Returns field name -> meaning; fields no docstring mentions are absent.
    """
    names = {field.name for field in dataclasses.fields(config_class)}
    docs: dict[str, str] = {}
    for cls in reversed(config_class.__mro__):  # base classes first, so that a class can say it better
        if dataclasses.is_dataclass(cls):
            docs.update(_docstring_fields(cls, names))
    return docs


def _docstring_fields(cls: type, names: set[str]) -> dict[str, str]:
    docs: dict[str, str] = {}
    current: list[str] = []
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        for piece in _NEXT_ON_LINE.split(line):
            found = _DOCUMENTED.match(piece)
            if found and names.intersection(found["names"].split(", ")):
                current = [name for name in found["names"].split(", ") if name in names]
                docs.update(dict.fromkeys(current, found["text"]))
            elif line.startswith(" ") and line.strip():
                docs.update({name: f"{docs[name]} {piece.strip()}" for name in current})
            else:
                current = []
    return docs
