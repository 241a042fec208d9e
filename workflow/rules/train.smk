# Networks: trained on the training split of a set of sub-events or of whole events. Settings of trackers: tuned on validation events.
# Test events are used for neither.


rule train:
    input:
        index=lambda wildcards: (
            f"results/{wildcards.run}/prepared/{sample_of(wildcards.set)}/index.csv"
        ),
        manifest=lambda wildcards: (
            f"results/{wildcards.run}/prepared/{sample_of(wildcards.set)}/manifest.json"
        ),
    output:
        weights="results/{run}/models/{model}/{set}.pt",
        history="results/{run}/models/{model}/{set}-history.csv",
        facts="results/{run}/models/{model}/{set}-facts.json",
    log:
        "logs/{run}/train/{model}-{set}.log",
    benchmark:
        "results/{run}/benchmarks/train/{model}-{set}.tsv"
    wildcard_constraints:
        model="[a-z][a-z0-9_]*",
        set="|".join(TRAINED_SETS or ["none"]),
    # First of what can run: the long jobs, and much waits for them.
    priority: 100
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: training_threads(config, wildcards.model, wildcards.set)
    resources:
        gpu=lambda wildcards: gpus(wildcards.model, wildcards.set),
        mem_mb=8000,
        runtime=1440,
    params:
        code=train_digest,
        # Beside the outputs, which Snakemake removes when a job fails: an interrupted training goes on from here.
        folder="results/{run}/models/{model}/{set}.training",
        task=lambda wildcards: config["models"][wildcards.model]["task"],
        blocks=lambda wildcards: model_settings(config, wildcards.model, wildcards.set),
        seed=config["seed"],
    message:
        "Train {wildcards.model} on {wildcards.set}"
    script:
        "../scripts/train.py"


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
        environment
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=tracker_digest("tune.py"),
        tracker=main_module,
        settings=main_settings,
        selection=config["selection"],
        metric="dm",
        events=config["tuning"]["events"],
        seed=config["seed"],
        sectors=DATA["sectors"],
    message:
        "Tune {wildcards.tracker} on validation events"
    script:
        "../scripts/tune.py"
