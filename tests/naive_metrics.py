"""Every metric written a second time, in plain Python straight from the definitions; slow, for tests only."""

from collections import Counter
from fractions import Fraction


def naive_counts(labels, truth, pt_min=0.9, eta_max=4.0, min_layers=3, min_size=3, fit_pt=None):
    """Return metric name -> (numerator, denominator) for selection pT >= pt_min, |eta| < eta_max.

    fit_pt: label -> fitted pT [GeV], if the candidates are fitted
    """
    labels, particle_id = labels.tolist(), truth.particle_id.tolist()
    rows = {row["particle_id"]: row for row in truth.particles.to_dict("records")}
    here = Counter(particle_id)
    total = {pid: here[0] if pid == 0 else rows[pid]["n_hits"] for pid in here}
    clusters = {}
    for i, label in enumerate(labels):
        if label >= 0:
            clusters.setdefault(label, []).append(i)
    targets = {
        pid
        for pid, row in rows.items()
        if here[pid] and row["pt"] >= pt_min and abs(row["eta"]) < eta_max and row["n_layers"] >= min_layers
    }
    described = [describe_cluster(hits, particle_id, total) for hits in clusters.values()]
    counts = fiducial_counts([c for c in described if c["n"] >= min_size and c["majority"] in targets], targets)
    candidates = [c for c in described if c["n"] >= min_size]
    counts["fake_all"] = (sum(not c["dm"] for c in candidates), len(candidates))
    if fit_pt is not None:
        above = [c for c in candidates if not fit_pt[labels[c["hits"][0]]] <= pt_min]  # NaN counts
        counts["fake_all_pt"] = (sum(not c["dm"] for c in above), len(above))
    counts.update(acorn(described, targets))
    counts.update(maskformer(described, rows, here, total))
    good = [c for c in described if c["dm"]]
    weight = sum(truth.weight[i] for c in good for i in c["hits"] if particle_id[i] == c["majority"])
    counts["trackml_score"] = (weight, truth.weight.sum())
    shared = sum(c["shared"][c["majority"]] for c in good)
    counts["fit_accuracy"] = (shared, sum(pid != 0 for pid in particle_id))
    counts["fit_accuracy_all"] = (shared, len(particle_id))
    inside = {i for c in candidates for i in c["hits"]}
    counts["coverage"] = (len(inside), len(labels))
    of_target = [i for i, pid in enumerate(particle_id) if pid in targets]
    counts["coverage_target"] = (sum(i in inside for i in of_target), len(of_target))
    return counts


def describe_cluster(hits, particle_id, total):
    """Majority, purity and completeness of one cluster."""
    shared = Counter(particle_id[i] for i in hits)
    majority = min(shared, key=lambda pid: (-shared[pid], pid))
    purity = Fraction(shared[majority], len(hits))
    completeness = Fraction(shared[majority], total[majority])
    return {
        "hits": hits,
        "n": len(hits),
        "shared": shared,
        "total": total,
        "majority": majority,
        "P": purity,
        "E": completeness,
        "dm": majority != 0 and purity > Fraction(1, 2) and completeness > Fraction(1, 2),
        "perfect": purity > Fraction(99, 100) and completeness == 1,
    }


def fiducial_counts(fiducial, targets):
    """gnn_tracking and HEPTv2 metrics of the candidates led by a target."""
    n, n_targets = len(fiducial), len(targets)
    dm, perfect = sum(c["dm"] for c in fiducial), sum(c["perfect"] for c in fiducial)
    lhc = sum(c["P"] > Fraction(3, 4) for c in fiducial)
    pure = [c["majority"] for c in fiducial if c["P"] > Fraction(1, 2)]
    found = len(set(pure))
    return {
        "dm": (dm, n_targets),
        "technical": (found, n_targets),
        "perfect": (perfect, n_targets),
        "lhc": (lhc, n),
        "fake_rate": (n - len(pure), n),
        "fake_dm": (n - dm, n),
        "fake_perfect": (n - perfect, n),
        "fake_lhc": (n - lhc, n),
        "fake_dm_per_particle": (n - dm, n_targets),
        "dup_rate": (len(pure) - found, found),
    }


def acorn(clusters, targets):
    """Pairs of candidate and particle, purity and completeness compared with 1/2 + 1e-6 by >=."""
    cut = Fraction(1, 2) + Fraction(1, 10**6)
    counts = {}
    for length in (3, 5):
        candidates = [c for c in clusters if c["n"] >= length]
        for style in ("atlas", "one_way", "two_way"):
            matched, found = 0, []
            for c in candidates:
                any_match = False
                for pid, shared in c["shared"].items():
                    pure = Fraction(shared, c["n"]) >= cut
                    complete = Fraction(shared, c["total"][pid]) >= cut
                    is_match = pure and (complete or style != "two_way")
                    any_match |= is_match
                    reconstructed = {"atlas": pure, "one_way": complete, "two_way": pure and complete}[style]
                    if reconstructed and pid in targets:
                        found.append(pid)
                matched += any_match
            distinct = len(set(found))
            counts[f"acorn_{style}_eff_{length}"] = (distinct, len(targets))
            counts[f"acorn_{style}_fake_{length}"] = (len(candidates) - matched, len(candidates))
            counts[f"acorn_{style}_dup_{length}"] = (len(found) - distinct, distinct)
    return counts


def maskformer(clusters, rows, here, total):
    """Walk the candidates in decreasing overlap; each takes its best target if that is free."""
    targets = {p for p, r in rows.items() if here[p] and r["pt"] > 1 and abs(r["eta"]) < 4 and r["n_hits"] >= 3}
    candidates = [c for c in clusters if c["n"] >= 3]
    walk = []
    for c in candidates:
        overlaps = [(-shared, pid) for pid, shared in c["shared"].items() if pid in targets]
        if overlaps:
            shared, pid = min(overlaps)
            walk.append((shared, c["n"], pid))
    taken, dm, perfect, lhc = set(), 0, 0, 0
    for negative, n, pid in sorted(walk):
        if pid in taken:
            continue
        taken.add(pid)
        precision, recall = Fraction(-negative, n), Fraction(-negative, total[pid])
        dm += precision > Fraction(1, 2) and recall > Fraction(1, 2)
        perfect += precision == recall == 1
        lhc += precision > Fraction(3, 4)
    return {
        "maskformer_dm": (dm, len(targets)),
        "maskformer_perfect": (perfect, len(targets)),
        "maskformer_lhc": (lhc, len(targets)),
        "maskformer_fake": (len(candidates) - dm, len(candidates)),
        "maskformer_dup": (0, len(candidates)),
    }
