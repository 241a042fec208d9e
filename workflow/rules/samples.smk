# Helpers: events, shards and origin of each sample.


def events_per_split(sample):
    """Number of events per split; the pile-up scan and the effects are all test events."""
    if sample == "main":
        return DATA["events"]
    if sample == "parents":
        return SUBEVENTS["parents"]["events"]
    if sample in COLLISION_SETS:
        return COLLISIONS["sets"][sample]["events"]
    n_shards = len(config["scan"]["pileup"] if sample == "scan" else EFFECTS)
    return {"test": config[sample]["events"] * n_shards}


def shard_events(sample):
    """Events per shard; a shard of the scan is one pile-up, one of the effects one variation."""
    if sample == "parents":
        return SUBEVENTS["parents"]["shard_events"]
    if sample in COLLISION_SETS:
        return COLLISIONS["sets"][sample]["shard_events"]
    return DATA["shard_events"] if sample == "main" else config[sample]["events"]


def shards(sample):
    """Shard names of a sample, "0000", "0001", ...; a set of sub-events has those of its parents."""
    if sample.startswith("tracks-"):
        sample = "parents"
    return [
        f"{k:04d}"
        for k in range(
            -(-sum(events_per_split(sample).values()) // shard_events(sample))
        )
    ]


def is_simulated(sample):
    """Pile-up scan and effects are always simulated, other samples if their source says so."""
    sample = origin_of(config, sample)
    if sample in COLLISION_SETS and COLLISIONS["sets"][sample]["source"] == "simulate":
        return True
    return sample in ("scan", "effects") or DATA["source"] == "simulate"


def hit_selection(sample):
    """DataSelection values of a sample: sub-events are cut from every hit of the full detector."""
    if sample == "parents":
        return {
            "detector": "full",
            "hit_eta_max": None,
            "truth_filter": False,
            "cells": DATA["cells"],
        }
    selection = {
        key: DATA[key] for key in ("detector", "hit_eta_max", "truth_filter", "cells")
    }
    if sample in COLLISION_SETS:
        selection["truth_filter"] = truth_filter_of(config, sample)
    return selection


def simulation_settings(wildcards):
    """SimulationConfig values of a shard."""
    settings = {**DATA["simulate"], "seed": config["seed"]}
    if wildcards.sample == "scan":
        settings["pileup"] = config["scan"]["pileup"][int(wildcards.shard)]
    if wildcards.sample == "effects":
        settings |= list(EFFECTS.values())[int(wildcards.shard)]
    if wildcards.sample == "parents":
        settings |= SUBEVENTS["parents"]["simulate"]
    if wildcards.sample in COLLISION_SETS:
        settings |= simulation_of(config, wildcards.sample)
    if DATA["cells"]:
        settings["cells"] = True
    return settings


def event_numbers(wildcards):
    """Event numbers of a simulated shard.

    main counts from 1, shard k of the scan from 100000 (k + 1), shard k of the effects from 10 million + 100000 k,
    parents of sub-events from 20 million + 1, set k of whole events from 40 million + 1 + 1 million k.
    """
    size, shard = shard_events(wildcards.sample), int(wildcards.shard)
    if wildcards.sample == "scan":
        return [100000 * (shard + 1) + k for k in range(size)]
    if wildcards.sample == "effects":
        return [10_000_000 + 100000 * shard + k for k in range(size)]
    total = sum(events_per_split(wildcards.sample).values())
    first = 20_000_001 if wildcards.sample == "parents" else 1
    if wildcards.sample in COLLISION_SETS:
        first = first_event(config, wildcards.sample)
    return list(range(first + shard * size, first + min((shard + 1) * size, total)))


def drawn_as(wildcards):
    """Numbers by which the events of a shard are drawn: all effects are seen on the collisions of the first."""
    if wildcards.sample != "effects":
        return None
    return [10_000_000 + k for k in range(shard_events("effects"))]


def raw_source(wildcards):
    """File whose presence says that the raw events of a shard are there."""
    if is_simulated(wildcards.sample):
        origin = origin_of(config, wildcards.sample)
        return f"results/{RUN}/events/{origin}/shard-{wildcards.shard}/manifest.json"
    if DATA["source"] == "kaggle":
        return [
            f"{DATA['kaggle']['directory']}/{archive}"
            for archive in DATA["kaggle"]["archives"]
        ]
    return DATA["local"]["path"]
