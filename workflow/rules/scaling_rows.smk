# Helpers of scaling.smk: what is run, on which inputs, and the figures there are.
from trackbench.collisions import scaling_rows

SCALING = COLLISIONS["scaling"]
SCALED_ROWS = scaling_rows(config)
SCALING_LIMIT_S = 120  # events expected to take longer are left out
SCALING_MEMORY_MB = 16000  # those expected to need more as well


def scaling_inputs(wildcards):
    """Weights and tuned settings of a row, and the pile-up scan where there is one."""
    row = find_row(config, wildcards.tracker, wildcards.sample)
    inputs = row_inputs(wildcards.tracker, row, wildcards.sample)
    if config["scan"]["pileup"]:
        inputs["scan"] = f"results/{RUN}/prepared/scan/index.csv"
    return inputs


def trained_at(wildcards):
    """What networks and settings in the figure know, in words."""
    known = wildcards.sample
    if COLLISIONS["sets"][known]["source"] == "simulate":
        known = f"{simulation_of(config, known)['pileup']:g} pile-up"
    if any(COLLISIONS["trackers"][name]["model"] for name in SCALED_ROWS):
        return f"networks trained and settings tuned on {known} only"
    return f"settings tuned on {known} only"


def scaling_results():
    """Figures of both kinds."""
    names = [f"scaling_{SCALING['set']}"] if SCALED_ROWS else []
    names += [f"dm_latency_{name}" for name in COLLISION_SETS]
    return [
        f"results/{RUN}/figures/{name}.{kind}"
        for name in names
        for kind in ("pdf", "png", "csv")
    ]
