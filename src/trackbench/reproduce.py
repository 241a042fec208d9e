"""Compare two folders of results of one configuration: all but times and memory must be equal.

Files of equal bytes are equal. Others are read, times and memory are left out, and the rest must be the same, number by
number. Left out as a whole are benchmarks of Snakemake, the report, figures as pictures (their numbers are in the csv
beside each) and saved states of trainings.
"""

import csv
import html.parser
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path

from trackbench.errors import InputError, describe

LEFT_OUT = (
    "benchmarks/*",
    "report.html",
    "*.training/*",
    "*.tmp-*",
    "figures/*.png",
    "figures/*.pdf",
    "figures/*.html",
)
# Parts of the name of a column, a key or a metric of times and memory: peak_memory_mb, latency_ms/p95, wall_lo.
_MEASURED = {"wall", "cpu", "seconds", "latency", "ms", "s", "mb", "memory", "time", "cost", "exponent"}
_MEASURED_HEAD = re.compile(r"\[(ms|s|MB|GB)\]|\b([Tt]ime|CPU|[Ll]atency|[Mm]emory)\b")
_NAMES = ("metric", "quantity")  # columns that name what is in the other ones of the row
_OF_THE_COLUMN_BEFORE = ("lo", "hi", "share")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|nan|inf)")

Rows = list[list[str]]


@dataclass(frozen=True)
class Comparison:
    """equal, different, missing, left_out: paths below the folders; missing are in one folder only.

    different: path -> the first difference; order: files that were written at another place in the sequence
    """

    equal: list[str] = field(default_factory=list)
    different: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    order: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether both folders have the same files, equal but for times and memory."""
        return not self.different and not self.missing


def compare_results(first: str | Path, second: str | Path) -> Comparison:
    """Compare all files of two folders of results, such as results/smoke of two runs.

    Raises InputError if one is not there or holds no file to compare.
    """
    folders = Path(first), Path(second)
    found = [{path.relative_to(folder).as_posix() for path in _files(folder)} for folder in folders]
    names = sorted(found[0] | found[1])
    result = Comparison(left_out=[name for name in names if _is_left_out(name)])
    for name in names:
        if _is_left_out(name):
            continue
        if name not in found[0] or name not in found[1]:
            result.missing[name] = f"only in {folders[name in found[1]]}"
        elif difference := first_difference(folders[0] / name, folders[1] / name):
            result.different[name] = difference
        else:
            result.equal.append(name)
    if not (result.equal or result.different or result.missing):
        raise InputError(describe(first, "no files to compare", "a folder such as results/smoke"))
    orders = [_order(folder, result.equal) for folder in folders]
    changed = sum(one != other for one, other in zip(*orders, strict=True))
    return Comparison(result.equal, result.different, result.missing, result.left_out, changed)


def first_difference(first: Path, second: Path) -> str:
    """Say where two files of one name differ first besides times and memory; "" if nowhere.

    Raises InputError for a table that cannot be read.
    """
    if first.read_bytes() == second.read_bytes():
        return ""
    compare = _COMPARE.get(first.suffix, _bytes_differ)
    try:
        return compare(first, second)
    except (OSError, ValueError, KeyError) as error:
        what = f"one of these cannot be read ({' '.join(str(error).split())[:200]})"
        raise InputError(describe(f"{first} and {second}", what, "complete files")) from error


def report(comparison: Comparison, first: str | Path, second: str | Path) -> str:
    """Return the comparison in Markdown: numbers of files per kind, then each difference."""
    rows = {"equal": list(comparison.equal), "different": list(comparison.different), "missing": [*comparison.missing]}
    kinds = sorted({_kind(name) for names in rows.values() for name in names})
    lines = ["| files | compared | equal | different | in one only |", "| --- | ---: | ---: | ---: | ---: |"]
    for kind in [*kinds, "all"]:
        counts = [sum(kind in ("all", _kind(name)) for name in names) for names in rows.values()]
        lines.append(f"| {kind} | {sum(counts)} | {counts[0]} | {counts[1]} | {counts[2]} |")
    head = f"First: {first}\nSecond: {second}\n"
    notes = f"\nNot compared: times and memory, and {len(comparison.left_out)} files ({', '.join(LEFT_OUT)}).\n"
    notes += f"{comparison.order} of the equal files were written at another place in the sequence of files.\n"
    found = [f"- {name}: {what}\n" for name, what in {**comparison.different, **comparison.missing}.items()]
    return "\n".join([head, *lines, notes, "".join(found) or "No difference.\n"])


def is_measured(name: str) -> bool:
    """Whether a column, key or metric of this name holds a time or memory."""
    return not _MEASURED.isdisjoint(re.split(r"[_/: ]", name))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(describe(folder, "no such folder", "results of the workflow, such as results/smoke"))
    return [path for path in folder.rglob("*") if path.is_file()]


def _is_left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in LEFT_OUT)


def _kind(name: str) -> str:
    return name.split("/")[0] if "/" in name else "(top)"


def _order(folder: Path, names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: ((folder / name).stat().st_mtime_ns, name))


def _bytes_differ(first: Path, second: Path) -> str:
    pairs = zip_longest(first.read_bytes(), second.read_bytes())
    return f"byte {next(k for k, (one, other) in enumerate(pairs) if one != other)}"


def _json_differs(first: Path, second: Path) -> str:
    one, other = (dict(_flat(json.loads(path.read_text(encoding="utf-8")))) for path in (first, second))
    for key in sorted({*one, *other}):
        values = [repr(values[key]) if key in values else "nothing" for values in (one, other)]
        if values[0] != values[1]:
            return f"{key}: {values[0]} and {values[1]}"
    return ""


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Leaves of nested plain values by their path, without those of a time or memory."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list) or not is_measured(key):
                yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from _flat(item, f"{prefix}[{k}]")
    else:
        yield prefix, value


def _parquet_differs(first: Path, second: Path) -> str:
    from pyarrow import parquet

    tables = [parquet.read_table(path, use_threads=False) for path in (first, second)]
    rows = [[table.schema.names, *map(list, zip(*table.to_pydict().values(), strict=True))] for table in tables]
    same_metadata = tables[0].schema.metadata == tables[1].schema.metadata
    return _rows_differ(*[[[str(cell) for cell in row] for row in table] for table in rows]) or (
        "" if same_metadata else "metadata of the file"
    )


def _csv_differs(first: Path, second: Path) -> str:
    texts = [path.read_text(encoding="utf-8") for path in (first, second)]
    return _rows_differ(*[list(csv.reader(io.StringIO(text, newline=""))) for text in texts])


def _rows_differ(first: Rows, second: Rows) -> str:
    """Compare two tables, the first row being the names of the columns, without times and memory."""
    if first[:1] != second[:1]:
        return f"columns {', '.join(*first[:1])} and {', '.join(*second[:1])}"
    if len(first) != len(second):
        return f"{len(first) - 1} and {len(second) - 1} rows"
    names = first[0] if first else []
    for k, (one, other) in enumerate(zip(first[1:], second[1:], strict=True), 1):
        for name, mine, theirs in zip(names, _masked(names, one), _masked(names, other), strict=True):
            if mine != theirs:
                return f"row {k}, column {name}: {mine} and {theirs}"
    return ""


def _masked(names: list[str], row: list[str]) -> list[str]:
    """The cells of a row; "" for those of a time or memory."""
    hidden = any(name in _NAMES and is_measured(cell) for name, cell in zip(names, row, strict=True))
    return [
        "" if measured or (hidden and _NUMBER.fullmatch(cell)) else cell
        for measured, cell in zip(_measured_columns(names), row, strict=True)
    ]


def _measured_columns(names: list[str]) -> list[bool]:
    """Whether each column holds a time or memory, or is the interval or the share of the column before it."""
    found: list[bool] = []
    for name in names:
        found.append(found[-1] if found and name in _OF_THE_COLUMN_BEFORE else is_measured(name))
    return found


def _text_differs(tables_of: Callable[[str], Rows]) -> Callable[[Path, Path], str]:
    """Return a comparison of texts with tables. tables_of: text -> its lines, those of tables as several cells."""

    def compare(first: Path, second: Path) -> str:
        one, other = (_without_times(tables_of(path.read_text(encoding="utf-8"))) for path in (first, second))
        for k, (mine, theirs) in enumerate(zip_longest(one, other), 1):
            if mine != theirs:
                pair = next(pair for pair in zip_longest(mine or [], theirs or []) if pair[0] != pair[1])
                return f"line {k}: {_short(pair[0])} and {_short(pair[1])}"
        return ""

    return compare


def _short(text: str | None) -> str:
    return "nothing" if text is None else repr(text if len(text) <= 80 else text[:80] + "...")


def _without_times(lines: Rows) -> Rows:
    """Empty the cells below the head of a column of times or memory. [""] ends a table: the next has its own head."""
    result, hidden = [], []
    for cells in lines:
        if cells == [""]:
            hidden = []
        if len(cells) > 1 and len(cells) != len(hidden):
            hidden = [bool(_MEASURED_HEAD.search(cell)) for cell in cells]
        elif len(cells) > 1:
            cells = ["" if hide else cell for hide, cell in zip(hidden, cells, strict=True)]
        result.append(cells)
    return result


def _markdown_lines(text: str) -> Rows:
    return [re.split(r"(?<!\\)\|", line)[1:-1] if line.startswith("|") else [line] for line in text.splitlines()]


def _latex_lines(text: str) -> Rows:
    lines = text.replace("\\end{tabular}", "\n\n\\end{tabular}").splitlines()
    return [re.split(r"(?<!\\)&", line) for line in lines]


class _TableReader(html.parser.HTMLParser):
    """Collect the cells of each row, and each text outside of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Rows = []
        self._row: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == "table":
            self.lines.append([""])  # ends the table before
        if tag == "tr":
            self._row = []
            self.lines.append(self._row)
        if tag in ("td", "th") and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._row = None

    def handle_data(self, data: str) -> None:
        if self._row:
            self._row[-1] += data.strip()
        elif data.strip():
            self.lines.append([data])


def _html_lines(text: str) -> Rows:
    reader = _TableReader()
    reader.feed(text)
    reader.close()
    return reader.lines


_COMPARE = {
    ".json": _json_differs,
    ".csv": _csv_differs,
    ".parquet": _parquet_differs,
    ".md": _text_differs(_markdown_lines),
    ".tex": _text_differs(_latex_lines),
    ".html": _text_differs(_html_lines),
}
