"""Tables and texts of results, compared number by number without times and memory."""

import html.parser
import re
from itertools import zip_longest

# Parts of the name of a column, a key or a metric of times and memory: peak_memory_mb, latency_ms/p95, wall_lo.
_MEASURED = {"wall", "cpu", "seconds", "latency", "ms", "s", "mb", "memory", "time", "cost", "exponent"}
_MEASURED_HEAD = re.compile(r"\[(ms|s|MB|GB)\]|\b([Tt]ime|CPU|[Ll]atency|[Mm]emory)\b")
_NAMES = ("metric", "quantity")  # columns that name what is in the other ones of the row
_OF_THE_COLUMN_BEFORE = ("lo", "hi", "share")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|nan|inf)")

Rows = list[list[str]]


def is_measured(name: str) -> bool:
    """Whether a column, key or metric of this name holds a time or memory."""
    return not _MEASURED.isdisjoint(re.split(r"[_/: ]", name))


def rows_differ(first: Rows, second: Rows) -> str:
    """Compare two tables, the first row being the names of the columns, without times and memory.

    Returns where they differ first, "" if nowhere.
    """
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


def lines_differ(first: Rows, second: Rows) -> str:
    """Compare two texts as lines, those of tables as several cells, without the columns of times and memory."""
    for k, (mine, theirs) in enumerate(zip_longest(_without_times(first), _without_times(second)), 1):
        if mine != theirs:
            pair = next(pair for pair in zip_longest(mine or [], theirs or []) if pair[0] != pair[1])
            return f"line {k}: {_short(pair[0])} and {_short(pair[1])}"
    return ""


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


def markdown_lines(text: str) -> Rows:
    """Lines of a Markdown text, those of tables as cells."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] if line.startswith("|") else [line] for line in text.splitlines()]


def latex_lines(text: str) -> Rows:
    """Lines of a LaTeX text, those of tables as cells."""
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


def html_lines(text: str) -> Rows:
    """Texts of an HTML page, rows of its tables as cells."""
    reader = _TableReader()
    reader.feed(text)
    reader.close()
    return reader.lines
