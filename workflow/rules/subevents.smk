# Sub-events of few tracks, cut from full-detector parents; every row of subevents.trackers over their test events.

SET_SAMPLE = "tracks-[0-9]+-[0-9]+"
ROW = "[a-z][a-z0-9_]*(@[0-9]+-[0-9]+)?"
ROWS = "(" + "|".join(SUBEVENTS["trackers"]) + ")"


rule subevents:
    input:
        hits="results/{run}/prepared/parents/shard-{shard}-hits.parquet",
        particles="results/{run}/prepared/parents/shard-{shard}-particles.parquet",
    output:
        hits="results/{run}/prepared/{sample}/shard-{shard}-hits.parquet",
        particles="results/{run}/prepared/{sample}/shard-{shard}-particles.parquet",
    log:
        "logs/{run}/subevents/{sample}-{shard}.log",
    benchmark:
        "results/{run}/benchmarks/subevents/{sample}-{shard}.tsv"
    wildcard_constraints:
        sample=SET_SAMPLE,
    priority: 50
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        code=digest("subevents.py"),
        config=subevent_settings,
    message:
        "Cut sub-events of {wildcards.sample}, shard {wildcards.shard}"
    script:
        "../scripts/subevents.py"


rule index_subevents:
    input:
        hits=lambda wildcards: expand(
            "results/{run}/prepared/{sample}/shard-{shard}-hits.parquet",
            run=wildcards.run,
            sample=wildcards.sample,
            shard=shards(wildcards.sample),
        ),
        parents="results/{run}/prepared/parents/index.csv",
        parents_manifest="results/{run}/prepared/parents/manifest.json",
    output:
        index="results/{run}/prepared/{sample}/index.csv",
        manifest="results/{run}/prepared/{sample}/manifest.json",
    log:
        "logs/{run}/index/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/index/{sample}.tsv"
    wildcard_constraints:
        sample=SET_SAMPLE,
    priority: 50
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("index_subevents.py"),
        config=subevent_settings,
        source=DATA["source"],
        selection=SUBEVENT_SELECTION,
    message:
        "Index the sample {wildcards.sample}"
    script:
        "../scripts/index_subevents.py"


use rule tune as tune_subevents with:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        weights=row_weights,
    output:
        settings="results/{run}/tuned/{sample}/{tracker}.json",
    log:
        "logs/{run}/tune/{sample}-{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/tune/{sample}-{tracker}.tsv"
    wildcard_constraints:
        sample=SET_SAMPLE,
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=row_gpus,
    params:
        code=row_digest("tune.py"),
        tracker=lambda wildcards: row_of(wildcards).tracker,
        settings=row_settings,
        selection=SUBEVENT_SELECTION,
        metric="trackml_score",
        events=SUBEVENTS["tuning"]["events"],
        seed=config["seed"],
        sectors={"count": 1, "overlap": 0},
    message:
        "Tune {wildcards.tracker} on validation events of {wildcards.sample}"


use rule reconstruct as reconstruct_subevents with:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        settings=row_tuned,
        weights=row_weights,
    wildcard_constraints:
        sample=SET_SAMPLE,
        tracker=ROWS,
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=row_gpus,
    params:
        code=row_digest("reconstruct.py"),
        tracker=lambda wildcards: row_of(wildcards).tracker,
        settings=row_settings,
        seed=config["seed"],
        sectors={"count": 1, "overlap": 0},
        pad_to=None,
    message:
        "Run {wildcards.tracker} over the test events of {wildcards.sample}"


# Weights of another set.
use rule reconstruct_subevents as reconstruct_transfer with:
    wildcard_constraints:
        sample=SET_SAMPLE,
        tracker=f"{ROWS}@[0-9]+-[0-9]+",


rule ceilings:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
    output:
        tracks=expand("results/{{run}}/tracks/{{sample}}/{name}.parquet", name=CEILINGS),
        parameters=expand(
            "results/{{run}}/tracks/{{sample}}/{name}-parameters.parquet",
            name=CEILINGS,
        ),
    log:
        "logs/{run}/ceilings/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/ceilings/{sample}.tsv"
    wildcard_constraints:
        sample=SET_SAMPLE,
    conda:
        "../../envs/cluster.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=digest("ceilings.py"),
        names=CEILINGS,
    message:
        "What a perfect network would find in {wildcards.sample}"
    script:
        "../scripts/ceilings.py"


use rule evaluate as evaluate_subevents with:
    wildcard_constraints:
        sample=SET_SAMPLE,
        tracker=ROW,
    params:
        code=digest("evaluate.py"),
        selection=SUBEVENT_SELECTION,
