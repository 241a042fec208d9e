"""Keep what ``make faults`` injected and survived, and write the table of docs/faults.md from it.

    python benchmarks/record_faults.py build/faults.json [--out FILE] [--page FILE]

build/faults.json is written by the tests (option --faults-record). Only a whole run that passed, with each injected
fault survived, is kept: anything else is refused and nothing is written. tests/test_faults_page.py holds the page to
the record.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/faults.json"
PAGE = ROOT / "docs/faults.md"
BEGIN, END = "<!-- faults -->\n", "\n<!-- /faults -->"


def objection(record):
    """Why a record is not kept; "" if it is."""
    lost = [row["fault"] for row in record["faults"] if row["survived"] != row["injected"]]
    if lost:
        return f"not survived: {', '.join(lost)}"
    if not record["passed"]:
        return "the run did not pass"
    if not record["whole"]:
        return "not the whole run: make faults"
    return "" if record["faults"] else "no fault was injected"


def table(record):
    """The part of the page between the marks."""
    lines = ["| fault | injected | survived |", "|---|---:|---:|"]
    rows = [(row["fault"], row["injected"], row["survived"]) for row in record["faults"]]
    rows.append(("**all**", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines += [f"| {name} | {injected:,} | {survived:,} |" for name, injected, survived in rows]
    versions, machine = record["versions"], record["machine"]
    lines += [
        "",
        f"`{record['command']}` of {record['date']}, commit {record['commit']}, {record['seconds'] / 60:.0f} min on "
        f"{machine['cpus']} cores: {record['tests']['passed']} tests passed, {len(record['left_out'])} left out. "
        f"Python {versions['python']}, PyTorch {versions['torch']}, Snakemake {versions['snakemake']}, "
        f"{machine['system']}.",
    ]
    lines += [f"- left out: {name}: {reason}" for name, reason in record["left_out"].items()]
    lines += [f"Longest of all: {value:g} {name}." for name, value in record["measured"].items()]
    return "\n".join(lines)


def filled(text, record):
    """The text of the page with the table of a record."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"the page lacks the marks {BEGIN.strip()} and {END.strip()}")
    return before + begin + table(record) + end + after


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    record = json.loads(args.record.read_text(encoding="utf-8"))
    if why := objection(record):
        sys.exit(f"{args.record}: {why}; the record and the page stay as they are")
    page = filled(args.page.read_text(encoding="utf-8"), record)
    args.out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    args.page.write_text(page, encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
