# Every tracker over the same test events, one process each: tracks and the parameters of those that fit them,
# seconds per stage, peak memory.


rule reconstruct:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        settings=lambda wildcards: settings_file(wildcards.tracker),
    output:
        tracks="results/{run}/tracks/{sample}/{tracker}.parquet",
        parameters="results/{run}/tracks/{sample}/{tracker}-parameters.parquet",
        timing="results/{run}/tracks/{sample}/{tracker}-timing.csv",
        run="results/{run}/tracks/{sample}/{tracker}-run.json",
    log:
        "logs/{run}/reconstruct/{sample}-{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/reconstruct/{sample}-{tracker}.tsv"
    wildcard_constraints:
        sample="main|scan",
    conda:
        environment
    threads: 1
    resources:
        cpus_per_task=1,  # of a batch system, whatever the threads of profiles/default
        mem_mb=4000,
        runtime=120,
    params:
        code=tracker_digest("reconstruct.py"),
        tracker=main_module,
        settings=main_settings,
        seed=config["seed"],
        sectors=DATA["sectors"],
        pad_to=DATA["pad_to"],
    message:
        "Run {wildcards.tracker} over the test events of {wildcards.sample}"
    script:
        "../scripts/reconstruct.py"


rule reconstruct_tiled:
    input:
        index="results/{run}/prepared/main/index.csv",
        settings=lambda wildcards: settings_file(wildcards.tracker),
    output:
        timing="results/{run}/tracks/tiled/{tracker}-timing.csv",
    log:
        "logs/{run}/reconstruct_tiled/{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/reconstruct_tiled/{tracker}.tsv"
    conda:
        environment
    threads: 1
    resources:
        cpus_per_task=1,  # of a batch system, whatever the threads of profiles/default
        mem_mb=8000,
        runtime=120,
    params:
        code=tracker_digest("reconstruct_tiled.py"),
        tracker=main_module,
        settings=main_settings,
        seed=config["seed"],
        sectors=DATA["sectors"],
        sizes=config["scan"]["tiling"],
        calls=config["scan"]["calls"],
    message:
        "Time {wildcards.tracker} on one event tiled to several sizes"
    script:
        "../scripts/reconstruct_tiled.py"
