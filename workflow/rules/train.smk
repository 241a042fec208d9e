# Settings of trackers: tuned for double majority on validation events, never on test events.


rule tune:
    input:
        index="results/{run}/prepared/main/index.csv",
    output:
        settings="results/{run}/tuned/{tracker}.json",
    log:
        "logs/{run}/tune/{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/tune/{tracker}.tsv"
    conda:
        "../../envs/cluster.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=tracker_digest("tune.py"),
        settings=lambda wildcards: config["trackers"][wildcards.tracker],
        selection=config["selection"],
        events=config["tuning"]["events"],
        seed=config["seed"],
        sectors=DATA["sectors"],
    message:
        "Tune {wildcards.tracker} on validation events"
    script:
        "../scripts/tune.py"
