"""Reading speed against pandas with trackml-library's types, on the same files, in interleaved pairs.

Run: OMP_NUM_THREADS=1 python benchmarks/bench_reading.py [PREFIX] [--pairs N]
PREFIX is an event (csv or csv.gz); without it a toy event of mu = 200 size is made. Both sides read all
four tables; ours includes the checks. Writes benchmarks/results/reading.json.
"""

import argparse
import gzip
import platform
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pyarrow as pa

from trackbench.data.reader import read_event
from trackbench.data.schema import COLUMNS, PARTS
from trackbench.files import write_json
from trackbench.runner import machine_facts

ROOT = Path(__file__).resolve().parents[1]


def pandas_read(prefix, suffix):
    """Read like ``load_event`` of trackml-library."""
    return [pd.read_csv(f"{prefix}-{part}{suffix}", header=0, index_col=False, dtype=COLUMNS[part]) for part in PARTS]


def csv_bytes(prefix, part):
    """Content of one table of the given event, unpacked."""
    path = Path(f"{prefix}-{part}.csv")
    return path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())


def make_toy(directory):
    """Write a toy event with about as many hits as a mu = 200 event. Returns its prefix."""
    sys.path.insert(0, str(ROOT / "tests"))
    from raw_events import raw_tables, write_raw

    return write_raw(raw_tables(n_tracks=11000, n_noise=15000), directory, 1)


def seconds(function, *arguments):
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(prefix, suffix, n_pairs):
    """Time both readers in interleaved pairs after a warm-up. Returns the numbers for the record."""
    for table, expected in zip(read_event(prefix), pandas_read(prefix, suffix), strict=True):
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
    # Axes: pair, reader, clock.
    pairs = np.array([(seconds(pandas_read, prefix, suffix), seconds(read_event, prefix)) for _ in range(n_pairs)])
    result = {}
    for clock, name in enumerate(("wall", "cpu")):
        times = pairs[:, :, clock]
        low, middle, high = np.percentile(times[:, 0] / times[:, 1], [16, 50, 84])
        reference, ours = np.median(times, axis=0)
        result |= {f"pandas_{name}_s": round(reference, 5), f"trackbench_{name}_s": round(ours, 5)}
        result |= {f"{name}_ratio": round(middle, 2), f"{name}_ratio_16_84": [round(low, 2), round(high, 2)]}
    return result


def main():
    """Measure csv and csv.gz and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefix", nargs="?", help="event to read, such as data/event000001000")
    parser.add_argument("--pairs", type=int, default=30)
    options = parser.parse_args()
    record = {
        "what": "time to read one event (4 tables) with all checks against pandas.read_csv, median of pairs",
        "pairs": options.pairs,
        "event": Path(options.prefix).name if options.prefix else "toy",
        "machine": machine_facts(),
        "versions": {
            "python": platform.python_version(),
            "pandas": pd.__version__,
            "pyarrow": pa.__version__,
            "numba": numba.__version__,
            "numpy": np.__version__,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        source = options.prefix or make_toy(Path(folder) / "toy")
        record["rows"] = {part: csv_bytes(source, part).count(b"\n") - 1 for part in PARTS}
        for suffix in (".csv", ".csv.gz"):
            directory = Path(folder) / suffix.strip(".")
            directory.mkdir()
            prefix = directory / "event000000001"
            for part in PARTS:
                data = csv_bytes(source, part)
                Path(f"{prefix}-{part}{suffix}").write_bytes(gzip.compress(data, 6) if suffix == ".csv.gz" else data)
            record[suffix.strip(".")] = result = measure(prefix, suffix, options.pairs)
            for clock in ("wall", "cpu"):
                reference, ours = 1e3 * result[f"pandas_{clock}_s"], 1e3 * result[f"trackbench_{clock}_s"]
                spread = "{} to {}".format(*result[f"{clock}_ratio_16_84"])
                ratio = f"ratio {result[f'{clock}_ratio']:.2f} [{spread}]"
                print(f"{suffix:8} {clock:5} pandas {reference:6.1f} ms, trackbench {ours:6.1f} ms, {ratio}")
    write_json(ROOT / "benchmarks" / "results" / "reading.json", record)


if __name__ == "__main__":
    main()
