# Rows of a set of whole events against the number of hits, and their DM efficiency against their time.


# One process per row, alone on the machine (profiles/default): memory and time of one are not those of another.
rule scaling:
    input:
        unpack(scaling_inputs),
        index="results/{run}/prepared/{sample}/index.csv",
    output:
        csv="results/{run}/tracks/{sample}/{tracker}-scaling.csv",
    log:
        "logs/{run}/scaling/{sample}-{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/scaling/{sample}-{tracker}.tsv"
    wildcard_constraints:
        sample=SCALING["set"] or "none",
        tracker="|".join(SCALED_ROWS or ["none"]),
    conda:
        environment
    threads: 1
    resources:
        cpus_per_task=1,  # of a batch system, whatever the threads of profiles/default
        gpu=row_gpus,
        mem_mb=SCALING_MEMORY_MB,
        runtime=240,
    params:
        code=row_digest("scaling.py"),
        row=lambda wildcards: row_names(config, wildcards.sample)[wildcards.tracker],
        tracker=lambda wildcards: row_of(wildcards).tracker,
        settings=lambda wildcards: row_of(wildcards).settings,
        tiling=SCALING["tiling"],
        calls=SCALING["calls"],
        events=SCALING["events"],
        pileups=config["scan"]["pileup"],
        limit_s=SCALING_LIMIT_S,
        memory_mb=SCALING_MEMORY_MB,
        selection=config["selection"],
        seed=config["seed"],
    message:
        "Measure {wildcards.tracker} of {wildcards.sample} against the number of hits"
    script:
        "../scripts/scaling.py"


rule plot_scaling:
    input:
        studies=expand(
            "results/{{run}}/tracks/{{sample}}/{tracker}-scaling.csv",
            tracker=SCALED_ROWS,
        ),
        manifest="results/{run}/prepared/{sample}/manifest.json",
        published="config/published.csv",
    output:
        pdf="results/{run}/figures/scaling_{sample}.pdf",
        png=report(
            "results/{run}/figures/scaling_{sample}.png",
            caption="../report/scaling.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "8 time and memory against hits, {sample}"},
        ),
        csv="results/{run}/figures/scaling_{sample}.csv",
    log:
        "logs/{run}/plot_scaling/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/plot_scaling/{sample}.tsv"
    wildcard_constraints:
        sample=SCALING["set"] or "none",
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("plot_scaling.py"),
        selection=config["selection"],
        interval=config["evaluation"]["interval"],
        trained=trained_at,
        tiling=", ".join(map(str, SCALING["tiling"])),
        pileups=", ".join(f"{mean:g}" for mean in config["scan"]["pileup"]),
        about=about_collisions,
    message:
        "Plot time and memory of {wildcards.sample} against hits"
    script:
        "../scripts/plot_scaling.py"


rule plot_dm_latency:
    input:
        metrics="results/{run}/tables/metrics_{sample}.csv",
        runs=collision_files("tracks", "run.json"),
        manifest="results/{run}/prepared/{sample}/manifest.json",
    output:
        pdf="results/{run}/figures/dm_latency_{sample}.pdf",
        png=report(
            "results/{run}/figures/dm_latency_{sample}.png",
            caption="../report/dm_latency.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "3 DM against time, {sample}"},
        ),
        csv="results/{run}/figures/dm_latency_{sample}.csv",
    log:
        "logs/{run}/plot_dm_latency/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/plot_dm_latency/{sample}.tsv"
    wildcard_constraints:
        sample=COLLISION_SAMPLE,
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("plot_dm_latency.py"),
        selection=config["selection"],
        interval=config["evaluation"]["interval"],
        about=about_collisions,
    message:
        "Plot DM efficiency of {wildcards.sample} against time"
    script:
        "../scripts/plot_dm_latency.py"
