"""Compare two folders of results of one configuration: all but times and memory must be equal.

Files of equal bytes are equal. Others are read, times and memory are left out, and the rest must be the same, number by
number. Left out as a whole are benchmarks of Snakemake, the report, figures as pictures (their numbers are in the csv
beside each) and saved states of trainings.

What the results were made with (versions, threads, processor) is not a result: differences there are told apart, so
that the results of two machines can be compared.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path

from trackbench.errors import InputError, describe
from trackbench.result_rows import html_lines, is_measured, latex_lines, lines_differ, markdown_lines, rows_differ

LEFT_OUT = (
    "benchmarks/*",
    "report.html",
    "*.training/*",
    "*.tmp-*",
    "figures/*.png",
    "figures/*.pdf",
    "figures/*.html",
    "tables/provenance.*",
)
SURROUNDINGS = ("machine", "versions", "threads", "device", "device_name", "sittings")  # keys at the top of a manifest


@dataclass(frozen=True)
class Comparison:
    """equal, different, missing, left_out: paths below the folders; missing are in one folder only.

    different: path -> the first difference; order: files that were written at another place in the sequence
    made_with: path -> the first difference of versions, threads or processor
    """

    equal: list[str] = field(default_factory=list)
    different: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    order: int = 0
    made_with: dict[str, str] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether both folders have the same files, equal but for times, memory and what they were made with."""
        return not self.different and not self.missing


def compare_results(first: str | Path, second: str | Path) -> Comparison:
    """Compare all files of two folders of results, such as results/smoke of two runs.

    Raises InputError if one is not there or holds no file to compare.
    """
    folders = Path(first), Path(second)
    found = [{path.relative_to(folder).as_posix() for path in _files(folder)} for folder in folders]
    names = sorted(found[0] | found[1])
    result = Comparison(left_out=[name for name in names if _is_left_out(name)])
    same = _processors(*folders)
    for name in names:
        if _is_left_out(name):
            continue
        if name not in found[0] or name not in found[1]:
            result.missing[name] = f"only in {folders[name in found[1]]}"
            continue
        if difference := first_difference(folders[0] / name, folders[1] / name, same):
            result.different[name] = difference
        else:
            result.equal.append(name)
        if difference := _made_with(folders[0] / name, folders[1] / name):
            result.made_with[name] = difference
    if not (result.equal or result.different or result.missing):
        raise InputError(describe(first, "no files to compare", "a folder such as results/smoke"))
    orders = [_order(folder, result.equal) for folder in folders]
    changed = sum(one != other for one, other in zip(*orders, strict=True))
    return replace(result, order=changed)


def first_difference(first: Path, second: Path, same: Mapping[str, str] | None = None) -> str:
    """Say where two files of one name differ first besides times, memory and surroundings; "" if nowhere.

    same: words that stand for others in texts, such as names of processors
    Raises InputError for a table that cannot be read.
    """
    if first.read_bytes() == second.read_bytes():
        return ""
    try:
        if first.suffix in _OF_TEXTS:
            return _OF_TEXTS[first.suffix](*(_text(path, same or {}) for path in (first, second)))
        return (_parquet_differs if first.suffix == ".parquet" else _bytes_differ)(first, second)
    except (OSError, ValueError, KeyError) as error:
        what = f"one of these cannot be read ({' '.join(str(error).split())[:200]})"
        raise InputError(describe(f"{first} and {second}", what, "complete files")) from error


def report(comparison: Comparison, first: str | Path, second: str | Path) -> str:
    """Return the comparison in Markdown: numbers of files per kind, then each difference."""
    lines = ["| files | compared | equal | different | in one only |", "| --- | ---: | ---: | ---: | ---: |"]
    for kind, counts in counts_by_kind(comparison).items():
        lines.append(f"| {kind} | {sum(counts.values())} | {' | '.join(map(str, counts.values()))} |")
    head = f"First: {first}\nSecond: {second}\n"
    notes = f"\nNot compared: times and memory, and {len(comparison.left_out)} files ({', '.join(LEFT_OUT)}).\n"
    notes += f"{comparison.order} of the equal files were written at another place in the sequence of files"
    notes += " (by their times, which a copy may change).\n"
    found = [f"- {name}: {what}\n" for name, what in {**comparison.different, **comparison.missing}.items()]
    other = [f"- {name}: {what}\n" for name, what in comparison.made_with.items()]
    if other:
        other.insert(0, f"{len(other)} of the files were made with something else:\n\n")
    return "\n".join([head, *lines, notes, "".join(found) or "No difference.\n", "".join(other)])


def counts_by_kind(comparison: Comparison) -> dict[str, dict[str, int]]:
    """Number of files equal, different and missing per kind, which is the first part of the path; last: "all"."""
    rows = {"equal": list(comparison.equal), "different": list(comparison.different), "missing": [*comparison.missing]}
    kinds = sorted({_kind(name) for names in rows.values() for name in names})
    return {
        kind: {what: sum(kind in ("all", _kind(name)) for name in names) for what, names in rows.items()}
        for kind in [*kinds, "all"]
    }


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


def _text(path: Path, same: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for word, other in same.items():
        text = text.replace(word, other)
    return text


def _processors(*folders: Path) -> dict[str, str]:
    """Processors named in the manifests -> one word for all, so that texts that name them can be equal."""
    found = [
        {str(_manifest(path).get("machine", {}).get("cpu")) for path in _files(folder) if path.suffix == ".json"}
        for folder in folders
    ]
    named = set().union(*found) - {"None", "", "unknown"}
    return {} if found[0] == found[1] else dict.fromkeys(sorted(named, key=len, reverse=True), "PROCESSOR")


def _manifest(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}  # told where it is compared
    return content if isinstance(content, dict) else {}


def _made_with(first: Path, second: Path) -> str:
    if first.suffix != ".json":
        return ""
    found = [{key: _manifest(path).get(key) for key in SURROUNDINGS} for path in (first, second)]
    return _values_differ(*(dict(_flat(values, keep=True)) for values in found))


def _json_differs(first: str, second: str) -> str:
    return _values_differ(*(dict(_flat(_without(json.loads(text), SURROUNDINGS))) for text in (first, second)))


def _without(value: object, keys: Iterable[str]) -> object:
    return {key: item for key, item in value.items() if key not in keys} if isinstance(value, dict) else value


def _values_differ(first: dict[str, object], second: dict[str, object]) -> str:
    for key in sorted({*first, *second}):
        values = [repr(values[key]) if key in values else "nothing" for values in (first, second)]
        if values[0] != values[1]:
            return f"{key}: {values[0]} and {values[1]}"
    return ""


def _flat(value: object, prefix: str = "", keep: bool = False) -> Iterator[tuple[str, object]]:
    """Leaves of nested plain values by their path; keep: also those of a time or memory."""
    if isinstance(value, dict):
        for key, item in value.items():
            if keep or isinstance(item, dict | list) or not is_measured(key):
                yield from _flat(item, f"{prefix}.{key}" if prefix else key, keep)
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from _flat(item, f"{prefix}[{k}]", keep)
    else:
        yield prefix, value


def _parquet_differs(first: Path, second: Path) -> str:
    from trackbench.parquet import read_table

    tables = [read_table(path) for path in (first, second)]
    rows = [[table.schema.names, *map(list, zip(*table.to_pydict().values(), strict=True))] for table in tables]
    same_metadata = tables[0].schema.metadata == tables[1].schema.metadata
    return rows_differ(*[[[str(cell) for cell in row] for row in table] for table in rows]) or (
        "" if same_metadata else "metadata of the file"
    )


def _csv_differs(first: str, second: str) -> str:
    return rows_differ(*[list(csv.reader(io.StringIO(text, newline=""))) for text in (first, second)])


_OF_TEXTS = {
    ".json": _json_differs,
    ".csv": _csv_differs,
    ".md": lambda *texts: lines_differ(*map(markdown_lines, texts)),
    ".tex": lambda *texts: lines_differ(*map(latex_lines, texts)),
    ".html": lambda *texts: lines_differ(*map(html_lines, texts)),
}
