# Where trackers lose: the same collisions simulated under varied conditions, one shard each.


# Not timed, so it need not have the machine for itself as other reconstruction has.
use rule reconstruct as reconstruct_effects with:
    wildcard_constraints:
        sample="effects",


rule effects:
    input:
        index="results/{run}/prepared/effects/index.csv",
        manifest="results/{run}/prepared/effects/manifest.json",
        counts=expand(
            "results/{{run}}/metrics/effects/{tracker}-counts.csv",
            tracker=EFFECT_TRACKERS,
        ),
        particles=expand(
            "results/{{run}}/metrics/effects/{tracker}-particles.parquet",
            tracker=EFFECT_TRACKERS,
        ),
        candidates=expand(
            "results/{{run}}/metrics/effects/{tracker}-candidates.parquet",
            tracker=EFFECT_TRACKERS,
        ),
    output:
        csv=report(
            "results/{run}/tables/effects.csv",
            caption="../report/effects.rst",
            category="Robustness",
            labels={"content": "3 effects, all columns (csv)"},
        ),
        page=report(
            "results/{run}/tables/effects.html",
            caption="../report/effects.rst",
            category="Robustness",
            labels={"content": "2 table of effects"},
        ),
        markdown="results/{run}/tables/effects.md",
    log:
        "logs/{run}/effects.log",
    benchmark:
        "results/{run}/benchmarks/effects.tsv"
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("effects.py"),
        trackers=EFFECT_TRACKERS,
        effects=list(config["effects"]["variations"]),
        events=config["effects"]["events"],
        selection=config["selection"],
        about=about("effects", config),
        interval=config["evaluation"]["interval"],
    message:
        "Write the table of effects"
    script:
        "../scripts/effects.py"


rule plot_effects:
    input:
        table="results/{run}/tables/effects.csv",
        manifest="results/{run}/prepared/effects/manifest.json",
    output:
        pdf="results/{run}/figures/effects.pdf",
        png=report(
            "results/{run}/figures/effects.png",
            caption="../report/effects.rst",
            category="Robustness",
            labels={"content": "1 where trackers lose"},
        ),
        csv="results/{run}/figures/effects.csv",
    log:
        "logs/{run}/plot_effects.log",
    benchmark:
        "results/{run}/benchmarks/plot_effects.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_effects.py"),
        selection=config["selection"],
        events=config["effects"]["events"],
        nominal=next(
            (
                name
                for name, changes in config["effects"]["variations"].items()
                if not changes
            ),
            None,
        ),
        about=about("effects", config),
        reconstruction=reconstruction(DATA),
        interval=config["evaluation"]["interval"],
    message:
        "Plot where trackers lose"
    script:
        "../scripts/plot_effects.py"
