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


def cpu_seconds(function, *arguments):
    """CPU seconds of one call."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def measure(prefix, suffix, n_pairs):
    """Time both readers in interleaved pairs after a warm-up. Returns the numbers for the record."""
    for table, expected in zip(read_event(prefix), pandas_read(prefix, suffix), strict=True):
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
    pairs = np.array(
        [(cpu_seconds(pandas_read, prefix, suffix), cpu_seconds(read_event, prefix)) for _ in range(n_pairs)]
    )
    ratio = pairs[:, 0] / pairs[:, 1]
    low, middle, high = np.percentile(ratio, [16, 50, 84])
    reference, ours = np.median(pairs, axis=0)
    return {
        "pandas_cpu_s": round(reference, 5),
        "trackbench_cpu_s": round(ours, 5),
        "ratio": round(middle, 3),
        "ratio_16": round(low, 3),
        "ratio_84": round(high, 3),
    }


def main():
    """Measure csv and csv.gz and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefix", nargs="?", help="event to read, such as data/event000001000")
    parser.add_argument("--pairs", type=int, default=30)
    options = parser.parse_args()
    record = {
        "what": "CPU time to read one event (4 tables) with all checks, against pandas.read_csv; median of pairs",
        "pairs": options.pairs,
        "event": Path(options.prefix).name if options.prefix else "toy",
        "machine": f"{platform.machine()}, {platform.system()}",
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
            print(
                f"{suffix:8} pandas {1e3 * result['pandas_cpu_s']:6.1f} ms, trackbench "
                f"{1e3 * result['trackbench_cpu_s']:6.1f} ms, ratio {result['ratio']:.2f} "
                f"[{result['ratio_16']:.2f}, {result['ratio_84']:.2f}]"
            )
    write_json(ROOT / "benchmarks" / "results" / "reading.json", record)


if __name__ == "__main__":
    main()
