"""Write what `make reproduce` found as a record: files compared and equal, by kind.

Run, after make reproduce: python benchmarks/record_reproduce.py build/reproduce/one-core/results/smoke \\
    build/reproduce/all-cores/results/smoke
"""

import argparse
import subprocess
from pathlib import Path

from trackbench.files import write_json
from trackbench.machine import machine_facts, versions
from trackbench.reproduce import compare_results, counts_by_kind

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/reproduce.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="results of one run")
    parser.add_argument("second", type=Path, help="results of the other")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    found = compare_results(args.first, args.second)
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    record = {
        "command": "make reproduce",
        "machine": machine_facts(),
        "versions": versions(),
        "commit": subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip(),
        "kinds": counts_by_kind(found),
        "different": found.different,
        "missing": found.missing,
        "made_with": found.made_with,
        "written_in_another_sequence": found.order,
    }
    write_json(args.out, record)


if __name__ == "__main__":
    main()
