# Raw events -> checked, selected Parquet shards, one index and one manifest per sample.


rule prepare:
    input:
        raw=raw_source,
    output:
        hits="results/{run}/prepared/{sample}/shard-{shard}-hits.parquet",
        particles="results/{run}/prepared/{sample}/shard-{shard}-particles.parquet",
    log:
        "logs/{run}/prepare/{sample}-{shard}.log",
    benchmark:
        "results/{run}/benchmarks/prepare/{sample}-{shard}.tsv"
    priority: 50
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        code=digest("prepare.py"),
        simulated=lambda wildcards: is_simulated(wildcards.sample),
        shard_events=lambda wildcards: shard_events(wildcards.sample),
        events=lambda wildcards: events_per_split(wildcards.sample),
        data=lambda wildcards: hit_selection(wildcards.sample),
    message:
        "Check and select the raw events of {wildcards.sample} shard {wildcards.shard}"
    script:
        "../scripts/prepare.py"


rule index:
    input:
        hits=lambda wildcards: expand(
            "results/{run}/prepared/{sample}/shard-{shard}-hits.parquet",
            run=wildcards.run,
            sample=wildcards.sample,
            shard=shards(wildcards.sample),
        ),
        particles=lambda wildcards: expand(
            "results/{run}/prepared/{sample}/shard-{shard}-particles.parquet",
            run=wildcards.run,
            sample=wildcards.sample,
            shard=shards(wildcards.sample),
        ),
    output:
        index="results/{run}/prepared/{sample}/index.csv",
        manifest="results/{run}/prepared/{sample}/manifest.json",
    log:
        "logs/{run}/index/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/index/{sample}.tsv"
    priority: 50
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("index.py"),
        seed=config["seed"],
        events=lambda wildcards: events_per_split(wildcards.sample),
        selection=config["selection"],
        source=lambda wildcards: (
            "simulate" if is_simulated(wildcards.sample) else DATA["source"]
        ),
        data=lambda wildcards: hit_selection(wildcards.sample),
    message:
        "Index the sample {wildcards.sample}"
    script:
        "../scripts/index.py"
