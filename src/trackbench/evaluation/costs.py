"""What a tracker costs: time per event and stage, memory, as rows of the long table."""

import numpy as np
import pandas as pd


def cost_rows(timing: pd.DataFrame | None, run: dict | None) -> list[dict]:
    """Build the rows of latency, CPU time, first call and memory of one tracker.

    timing: ``event_id n_hits stage wall_s cpu_s``, ``stage`` = total or a stage; run: content of the run file
    Returns rows of the long table: ``latency_ms`` and ``cpu_ms`` (median over events with the 16 to 84
    percentile), ``latency_ms/p95``, ``latency_ms/stage:NAME``, ``latency_ms/unattributed`` (total - all
    stages), ``first_call_s`` and ``first_call_memory_mb`` (imports and compilation included),
    ``peak_memory_mb`` (without them). Their ``selection`` states the conditions.
    """
    rows = []
    run = run or {}
    conditions = _conditions(run)
    if timing is not None and len(timing):
        times = timing.pivot_table(index="event_id", columns="stage", values=["wall_s", "cpu_s"], aggfunc="sum")
        wall = 1e3 * times["wall_s"].fillna(0.0)
        total, stages = wall["total"].to_numpy(), wall.drop(columns="total")
        rows.append(_quantiles("latency_ms", total))
        rows.append({"metric": "latency_ms/p95", "value": np.percentile(total, 95), "lo": np.nan, "hi": np.nan})
        rows += [_quantiles(f"latency_ms/stage:{name}", stages[name].to_numpy()) for name in stages]
        rows.append(_quantiles("latency_ms/unattributed", total - stages.sum(axis=1).to_numpy()))
        rows.append(_quantiles("cpu_ms", 1e3 * times["cpu_s"]["total"].to_numpy()))
        rows = [{**row, "n_events": len(wall)} for row in rows]
    for metric in ("first_call_s", "first_call_memory_mb", "peak_memory_mb"):
        if run.get(metric) is not None:
            rows.append({"metric": metric, "value": float(run[metric]), "lo": np.nan, "hi": np.nan})
    return [{**row, "selection": conditions} for row in rows]


def _quantiles(metric: str, values: np.ndarray) -> dict:
    lo, middle, hi = np.percentile(values, [16, 50, 84])
    return {"metric": metric, "value": middle, "lo": lo, "hi": hi}


def _conditions(run: dict) -> str:
    """State under which conditions time and memory were measured."""
    machine = run.get("machine", {}).get("cpu")
    known = [machine, *(f"{key} {run[key]}" for key in ("device", "precision", "threads") if run.get(key))]
    known.append(f"warm-up calls {run['warmup']}" if "warmup" in run else None)
    return ", ".join([*(part for part in known if part), "one event at a time, host arrays to host labels"])
