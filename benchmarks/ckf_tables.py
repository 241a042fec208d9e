"""Tables of docs/ckf.md from benchmarks/results/ckf.json; ``table.py`` prints them, a test compares."""

import json
from pathlib import Path

RECORD = Path(__file__).resolve().parent / "results/ckf.json"


def record():
    """Content of the record."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def spread(ratio):
    """Median and range of a ratio: ``5.3 x (4.1 to 8.5)``."""
    return "{median:.1f} x ({min:.1f} to {max:.1f})".format(**ratio)


def markdown(head, rows):
    """A table in Markdown, the first column of words, the others of numbers. head, rows: of texts."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(found, digits=1, error=False):
    """A share in percent, with half of its interval if asked for; - where it was not measured."""
    if found is None:
        return "-"
    half = f" +- {50 * (found['hi'] - found['lo']):.{digits}f}" if error else ""
    return f"{100 * found['value']:.{digits}f}{half}"


def named(sample):
    """Name of a sample with the number of its events."""
    return f"{sample['sample']} ({sample['events']} events)"


def main_table():
    """Efficiency, fakes and time of the Kalman filter, for docs/ckf.md."""
    head = ("events", "DM efficiency [%]", "purity fakes [%]", "all candidates [%]", "fitted pT > 0.9 GeV [%]")
    rows = []
    for sample in record()["samples"]:
        ours = sample["rows"]["ckf"]
        shares = (shown(ours["dm"], error=True), shown(ours["fake_rate"], 2), shown(ours["fake_all"]))
        time = "{mean:.2g} ({min:.2g} to {max:.2g})".format(**ours["cpu_s"])
        cost = (time, spread(sample["ckf_over_helix_finder"]))
        rows.append((named(sample), *shares, shown(ours["fake_all_pt"]), shown(ours["perfect"]), *cost))
    return markdown((*head, "perfect [%]", "CPU s", "time / `helix_finder`"), rows)


def region_table():
    """Double majority of the Kalman filter by region and of the helix finder on the same events, for docs/ckf.md."""
    regions = {"prompt": "prompt", "secondary": "secondary", "central": "abs(eta) < 3", "forward": "abs(eta) >= 3"}
    head = (
        "events",
        *regions.values(),
        "fakes, abs(eta) < 3",
        "fakes, abs(eta) >= 3",
        "`helix_finder`: all, secondary",
    )
    rows = []
    for sample in record()["samples"]:
        found, peer = sample["rows"]["ckf"]["regions"], sample["rows"]["helix_finder"]
        dm = (shown(found[name]["dm"], error=True) for name in regions)
        fakes = (shown(found[name]["fake_all"]) for name in ("central", "forward"))
        beside = f"{shown(peer['dm'])}, {shown(peer['regions']['secondary']['dm'])}"
        rows.append((named(sample), *dm, *fakes, beside))
    return markdown(head, rows)


def row_table():
    """What stages of the Kalman filter gain and cost, for docs/ckf.md."""
    stages = ("read", "seeding", "finding", "ambiguity", "postprocess")
    head = ("row", "DM efficiency [%]", "technical [%]", "perfect [%]", "purity fakes [%]", "all candidates [%]")
    rows = []
    for sample in record()["samples"]:
        for row in ("ckf", "ckf_no_ambiguity", "ckf_seeds"):
            if row in sample["rows"] and "ckf_seeds" in sample["rows"]:
                ours = sample["rows"][row]
                shares = (shown(ours[name]) for name in ("dm", "technical", "perfect", "fake_rate", "fake_all"))
                times = (
                    f"{ours['stages_cpu_s'][stage]:.2f}" if stage in ours["stages_cpu_s"] else "-" for stage in stages
                )
                rows.append((f"`{row}`, {sample['sample']}", *shares, *times))
    return markdown((*head, *(f"{stage} [CPU s]" for stage in stages)), rows)


def fit_table():
    """Widths of the pulls of prompt tracks and, at 200 pile-up, resolutions, for docs/ckf.md."""
    names = {"d0": "d0", "z0": "z0", "phi": "phi", "theta": "theta", "q_over_pt": "q/pT"}
    rows = []
    for sample in record()["samples"]:
        fits = sample["rows"]["ckf"]["prompt_fits"]
        rows.append((sample["sample"], *("{value:.2f} +- {error:.2f}".format(**fits[n]["pull_width"]) for n in names)))
        if sample["folder"] == "mu200":
            values = (fits[n]["resolution"] for n in names)
            rows.append((f"{sample['sample']}, resolution", *(f"{v['value']:.3g} {v['unit']}" for v in values)))
    return markdown(("events", *names.values()), rows)


def pass_table():
    """Passes of the Kalman filter with its default settings, for docs/ckf.md."""
    head = ("pass", "seeds in", "pT > [GeV]", "impact < [mm]", "crossing abs(z) < [mm]", "seeds per middle point")
    rows = []
    for detector, passes in record()["passes"].items():
        for number, one in enumerate(passes, 1):
            seeds = one["seeds"]
            where = "pixels" if 8 in seeds["volumes"] else "short strips"
            numbers = (f"{seeds[name]:g}" for name in ("min_pt", "max_impact", "max_z0", "per_middle"))
            hits = f"{one['min_hits']}, {one['max_holes']}"
            limits = {"chi2 + (d0 / sigma)^2": one["max_beam_chi2"], "chi2 / n_dof": one["max_chi2_per_dof"]}
            fit = ", ".join(f"{name} < {limit:g}" for name, limit in limits.items() if limit is not None)
            rows.append((f"{detector} {number}", where, *numbers, hits, f"{one['max_d0']:g}", fit or "-"))
    return markdown((*head, "hits >=, holes <=", "abs(d0) < [mm]", "fit"), rows)


def target_table():
    """What was asked of the Kalman filter and what came out, for docs/ckf.md."""
    names = {
        "dm": "DM efficiency",
        "fake_rate": "purity fakes",
        "fake_all": "fakes of all candidates",
        "fake_all_pt": "the same, fitted pT > 0.9 GeV",
        "cpu_s": "CPU s per event, mean",
    }
    rows = []
    for one in record()["targets"]:
        limit, measured = one["limit"], one["measured"]
        if one["quantity"] != "cpu_s":
            limit, measured = f"{100 * limit:g} %", f"{100 * measured:.2f} %"
        else:
            limit, measured = f"{limit:g}", f"{measured:.1f}"
        sign = ">=" if one["quantity"] == "dm" else "<="
        asked = f"{names[one['quantity']]} {sign} {limit}"
        rows.append((f"{one['sample']}: {asked}", measured, "met" if one["met"] else "**missed**"))
    return markdown(("target", "measured", ""), rows)


# marker in docs/ckf.md -> what stands between it and its end
TABLES = {
    "passes": pass_table,
    "ckf": main_table,
    "targets": target_table,
    "regions": region_table,
    "rows": row_table,
    "fits": fit_table,
}
