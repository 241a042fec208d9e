"""Print the tables of README and of docs from benchmarks/results; tests compare.

Run: python benchmarks/table.py
"""

import json
from pathlib import Path

KIND_WORDS = {"floor": "floor", "untrained": "not trained", "ceiling": "ceiling, made with truth"}
RESULTS = Path(__file__).resolve().parent / "results"


def spread(ratio, digits=1):
    """Median and range of a ratio: ``5.3 x (4.1 to 8.5)``."""
    low, middle, high = (f"{ratio[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} x ({low} to {high})"


def read(name):
    """Content of one record."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def reproduce_table():
    """Files of two runs of the smoke workflow that are equal, by kind."""
    record = read("reproduce")
    kinds = sorted(record["kinds"].items(), key=lambda kind: kind[0] == "all")
    rows = [f"| {kind} | {sum(n.values())} | {n['equal']} |" for kind, n in kinds]
    return "\n".join(["| files below | compared | equal |", "| --- | ---: | ---: |", *rows])


def reliability_sentence():
    """Faults injected and survived, files of two runs that are equal, in one sentence."""
    faults, files = read("faults")["faults"], read("reproduce")["kinds"]["all"]
    injected, survived = (sum(row[what] for row in faults) for what in ("injected", "survived"))
    return (
        f"In the records, {survived:,} of {injected:,} injected faults were survived, and {files['equal']:,} of "
        f"{sum(files.values()):,} files of two smoke runs are equal."
    )


def reading_rows():
    """Rows of reading speed; range = 16 to 84 percentile of the pairs."""
    record = read("reading")
    for kind in ("csv", "csv.gz"):
        result = record[kind]
        times = []
        for clock, name in (("wall", "wall"), ("cpu", "CPU")):
            low, high = result[f"{clock}_ratio_16_84"]
            times.append(f"{result[f'{clock}_ratio']:.1f} x ({low:.1f} to {high:.1f}) {name}")
        yield f"read one event, 4 {kind} tables, with all checks", "`pandas.read_csv`", ", ".join(times)


def metric_rows():
    """Rows of scoring and evaluation."""
    record = read("metrics")
    ratio = record["ratio_to_ours"]
    both = f"{spread(ratio['plain Python'])}; vectorised pandas {spread(ratio['pandas'])}"
    yield f"TrackML score of {record['hits']:,} hits", "plain Python", both
    yield "all metrics of that event", "-", f"{1e3 * record['cpu_s']['all metrics']['median']:.0f} ms CPU"


def clustering_rows():
    """Rows of the barrel clusterers with default settings."""
    results = [r for r in read("clustering")["results"] if (r["region"], r["settings"]) == ("barrel", "default")]
    by_name = {r["name"]: r for r in results}
    for ours, peer in (("dbscan", "sklearn DBSCAN"), ("hdbscan", "hdbscan package"), ("hdbscan", "sklearn HDBSCAN")):
        yield f"`{ours}`, {by_name[ours]['n_hits']:,} barrel hits", peer, spread(by_name[peer]["ratio_to_ours"])


def helix_rows():
    """Row of the helix hash."""
    record = read("helix_hash")
    times = [event["cpu_s"]["median"] for event in record["events"]]
    cost = f"{min(times):.1f} to {max(times):.1f} CPU s"
    ratio = spread(record["comparison_on_first_event"]["numpy_over_compiled"])
    yield f"`helix_hash` on {len(times)} whole events", "the same scan in NumPy", f"{ratio}; {cost}"


def finder_rows():
    """Row of the helix finder: its first sample."""
    sample = read("helix_finder")["samples"][0]
    ours, other = ([event["median"] for event in sample[name]["cpu_s"]] for name in ("helix_finder", "helix_hash"))
    ratio = sorted(b / a for a, b in zip(ours, other, strict=True))
    faster = spread({"min": ratio[0], "median": ratio[len(ratio) // 2], "max": ratio[-1]})
    cost = f"{min(ours):.1f} to {max(ours):.1f} CPU s"
    yield f"`helix_finder` on {len(ours)} whole events, {sample['sample']}", "`helix_hash`", f"{faster}; {cost}"


def ckf_rows():
    """Row of the Kalman filter: its first sample."""
    sample = read("ckf")["samples"][0]
    ratio = sample["ckf_over_helix_finder"]
    faster = spread({"min": 1 / ratio["max"], "median": 1 / ratio["median"], "max": 1 / ratio["min"]}, digits=2)
    cost = "{min:.1f} to {max:.1f} CPU s".format(**sample["rows"]["ckf"]["cpu_s"])
    yield (
        f"`ckf` on {sample['events']} whole events, pixel hits, {sample['sample']}",
        "`helix_finder`",
        f"{faster}; {cost}",
    )


def simulation_rows():
    """Row of the simulation."""
    rows = sorted(read("simulation")["rows"], key=lambda row: -row["pileup"])
    pileups = ", ".join(f"{row['pileup']:g}" for row in rows)
    costs = ", ".join(f"{row['cpu_s_per_event']:.2g}" for row in rows)
    yield f"simulate one event at {pileups} pile-up", "-", f"{costs} CPU s"


def table():
    """The whole table as Markdown."""
    rows = [("what", "against", "faster by (range)"), ("---", "---", "---")]
    for part in (reading_rows, metric_rows, clustering_rows, helix_rows, finder_rows, ckf_rows, simulation_rows):
        rows += part()
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def finder_table():
    """The table of docs/helix-finder.md as Markdown."""
    head = ("events", "DM efficiency [%]", "purity fakes [%]", "fakes [%]", "perfect [%]", "CPU s")
    rows = [head, ("---", *["---:"] * 5)]
    for sample in read("helix_finder")["samples"]:
        ours = sample["helix_finder"]
        dm = 100 * ours["dm"]["value"], 50 * (ours["dm"]["hi"] - ours["dm"]["lo"])
        digits = {"fake_rate": 2, "fake_all_pt": 1, "perfect": 1}
        shares = (f"{100 * ours[name]['value']:.{n}f}" for name, n in digits.items())
        times = [event["median"] for event in ours["cpu_s"]]
        cost = " to ".join(f"{time:.{1 if time >= 1 else 2}f}" for time in (min(times), max(times)))
        rows.append((f"{sample['sample']} ({sample['events']} events)", "{:.1f} +- {:.1f}".format(*dm), *shares, cost))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main_table():
    """The main table of the demo, for README: best DM efficiency first."""
    head = ("tracker", "DM efficiency [%]", "perfect [%]", "fakes, purity [%]", "fakes, all candidates [%]")
    head += (
        "the same above a fitted pT of 0.9 GeV [%]",
        "duplicates [%]",
        "TrackML score, pixel hits [%]",
        "s per event",
    )
    lines = [head, ("---", *["---:"] * 8)]
    for row in sorted(read("trackformers")["main"], key=lambda row: -row["dm"][0]):
        rates = (with_errors(row[name]) for name in ("dm", "perfect", "fake_rate"))
        others = ("fake_all", "fake_all_pt", "dup_rate", "trackml_score")
        shares = (share(row[name]) if row.get(name) else "-" for name in others)
        lines.append((f"`{row['row']}`", *rates, *shares, f"{row['latency_ms'][0] / 1e3:.2g}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_errors(found):
    """Value with both errors in percent, with more digits if it is small."""
    value, below, above = percent(found)
    digits = 2 if value < 0.2 else 1
    return f"{value:.{digits}f} +{above:.{digits}f} -{below:.{digits}f}"


def share(found):
    """Value in percent without errors."""
    value = 100 * found[0]
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def trackformers_table():
    """The table of docs/trackformers.md as Markdown: score of each row on each set, best first within a kind."""
    record = read("trackformers")
    sets = list(dict.fromkeys(row["set"] for row in record["scores"]))
    cells, kinds, words = {}, {}, {}
    for row in record["scores"]:
        cells.setdefault(row["row"], {})[row["set"]] = row
        kinds[row["row"]] = row["kind"]
        words[row["row"]] = row["label"] or KIND_WORDS[row["kind"]]
    order = ("floor", "trained", "untrained", "ceiling")
    head = ("row", "kind", *sets)
    lines = [head, ("---", "---", *["---:"] * len(sets))]
    for name in sorted(
        cells, key=lambda name: (order.index(kinds[name]), -max(r["score"] for r in cells[name].values()))
    ):
        found = (cells[name].get(set_name) for set_name in sets)
        scores = (f"{row['score']:.3f} +- {row['error']:.3f}" if row else "-" for row in found)
        lines.append((f"`{name}`", words[name], *scores))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def collision_table(rows, trainings):
    """Rows of whole events as Markdown, best efficiency first.

    rows: of a record; trainings: of the same, for the steps behind a row with a label
    """
    head = ("row", "DM efficiency [%]", "perfect [%]", "purity fakes [%]", "all candidates [%]")
    lines = [head, ("---", *["---:"] * 4)]
    for row in sorted(rows, key=lambda row: -row["dm"][0]):
        cells = (row[name] and "{:.1f} (-{:.1f} +{:.1f})".format(*percent(row[name])) for name in ("dm", "perfect"))
        fakes = (row[name] and f"{100 * row[name][0]:.1f}" for name in ("fake_rate", "fake_all"))
        lines.append((row["row"], *(cell or "-" for cell in (*cells, *fakes))))
    events = rows[0]["events"]
    times = "; ".join(f"{t['model']} {t['steps']:,} steps in {t['seconds']:.0f} s" for t in trainings)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{events} test events; trainings: {times}."


def percent(found):
    """Value, and how far low and high lie from it, in percent."""
    value, low, high = found
    return 100 * value, 100 * (value - low), 100 * (high - value)


def demo_hept_table():
    """HEPTv2 in the demo, for docs/heptv2.md."""
    record = read("trackformers")
    trainings = [t for t in record["trainings"] if t["set"] in record["collisions"]]
    return collision_table(record["collisions"]["pileup-2"], trainings)


def cpu_hept_table():
    """HEPTv2 after the longer CPU configuration, for docs/heptv2.md."""
    record = read("heptv2_cpu")
    return collision_table(record["rows"], record["trainings"])


def hept_cost_table():
    """CPU seconds of HEPTv2 at its published size, for docs/heptv2.md: ours, the peer of the same run, quoted ones."""
    rows = [("hits", "stage", "ours", "published design, same run", "published design, quoted (other machine)")]
    rows.append(("---:", "---", "---:", "---:", "---:"))
    for result in read("heptv2")["results"]:
        quoted = result.get("quoted_cpu_s", {})
        for stage in ("serialisation", "encoder", "decoder", "assignment", "total", "post-processing"):
            ours, peer = (result["cpu_s"][name].get(stage) for name in ("ours", "peer"))
            cells = (f"{part['median']:.2f}" if part else "-" for part in (ours, peer))
            quote = f"{quoted[stage]:g}" if stage in quoted else "-"
            rows.append((f"{result['n_hits']:,}", stage, *cells, quote))
        ratio = "{median:.2f} ({min:.2f} to {max:.2f})".format(**result["ours_over_peer"])
        share = f"**{result['ours_over_quoted']:.2f}**" if quoted else "-"
        rows.append((f"{result['n_hits']:,}", "**ours / this**", "", f"**{ratio}**", share))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    import ckf_tables

    tables = (table, finder_table, *ckf_tables.TABLES.values())
    tables += (trackformers_table, demo_hept_table, cpu_hept_table, hept_cost_table)
    print(*(make() for make in tables), sep="\n\n")
