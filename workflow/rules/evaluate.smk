# Labels and truth -> counts, matched particles and candidates per tracker -> one long table.


rule evaluate:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        tracks="results/{run}/tracks/{sample}/{tracker}.parquet",
        parameters="results/{run}/tracks/{sample}/{tracker}-parameters.parquet",
    output:
        counts="results/{run}/metrics/{sample}/{tracker}-counts.csv",
        particles="results/{run}/metrics/{sample}/{tracker}-particles.parquet",
        candidates="results/{run}/metrics/{sample}/{tracker}-candidates.parquet",
        residuals="results/{run}/metrics/{sample}/{tracker}-residuals.parquet",
        vertices="results/{run}/metrics/{sample}/{tracker}-vertices.parquet",
    log:
        "logs/{run}/evaluate/{sample}-{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/evaluate/{sample}-{tracker}.tsv"
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        code=digest("evaluate.py"),
        selection=config["selection"],
    message:
        "Evaluate {wildcards.tracker} on {wildcards.sample}"
    script:
        "../scripts/evaluate.py"


rule tables:
    input:
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
        counts=expand(
            "results/{{run}}/metrics/main/{tracker}-counts.csv", tracker=TRACKERS
        ),
        particles=expand(
            "results/{{run}}/metrics/main/{tracker}-particles.parquet",
            tracker=TRACKERS,
        ),
        candidates=expand(
            "results/{{run}}/metrics/main/{tracker}-candidates.parquet",
            tracker=TRACKERS,
        ),
        timing=expand(
            "results/{{run}}/tracks/main/{tracker}-timing.csv", tracker=TRACKERS
        ),
        runs=expand("results/{{run}}/tracks/main/{tracker}-run.json", tracker=TRACKERS),
        published="config/published.csv",
    output:
        metrics=report(
            "results/{run}/tables/metrics.csv",
            caption="../report/metrics.rst",
            category="Comparison",
            labels={"content": "9 all metrics (csv)"},
        ),
        page=report(
            "results/{run}/tables/summary.html",
            caption="../report/summary.rst",
            category="Comparison",
            labels={"content": "1 summary table"},
        ),
        markdown="results/{run}/tables/summary.md",
        latex="results/{run}/tables/summary.tex",
    log:
        "logs/{run}/tables.log",
    benchmark:
        "results/{run}/benchmarks/tables.tsv"
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("tables.py"),
        title=config["title"],
        trackers=TRACKERS,
        selection=config["selection"],
        evaluation=config["evaluation"],
        seed=config["seed"],
        reconstruction=reconstruction(DATA),
        conventions=True,
        about=about("comparison", config),
        interval=config["evaluation"]["interval"],
    message:
        "Write the tables"
    script:
        "../scripts/tables.py"
