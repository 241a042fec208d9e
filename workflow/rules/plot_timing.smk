# Figures of time: against the number of hits, per stage, on tiled events.


rule plot_latency:
    input:
        timing=expand(
            "results/{{run}}/tracks/{sample}/{tracker}-timing.csv",
            sample=SAMPLES,
            tracker=TRACKERS,
        ),
        runs=expand("results/{{run}}/tracks/main/{tracker}-run.json", tracker=TRACKERS),
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
    output:
        pdf="results/{run}/figures/latency_pileup.pdf",
        png=report(
            "results/{run}/figures/latency_pileup.png",
            caption="../report/latency.rst",
            category="Cost",
            labels={
                "content": (
                    "time against hits, throughput against pile-up"
                    if config["scan"]["pileup"]
                    else "time against hits"
                )
            },
        ),
        csv="results/{run}/figures/latency_pileup.csv",
    log:
        "logs/{run}/plot_latency.log",
    benchmark:
        "results/{run}/benchmarks/plot_latency.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_latency.py"),
        trackers=TRACKERS,
        samples=SAMPLES,
        scan=config["scan"]["pileup"],
        about=about("latency", config),
        reconstruction=reconstruction(DATA),
    message:
        "Plot time against hits, pile-up scan"
    script:
        "../scripts/plot_latency.py"


rule plot_stages:
    input:
        timing=expand(
            "results/{{run}}/tracks/main/{tracker}-timing.csv", tracker=TRACKERS
        ),
        runs=expand("results/{{run}}/tracks/main/{tracker}-run.json", tracker=TRACKERS),
        manifest="results/{run}/prepared/main/manifest.json",
    output:
        pdf="results/{run}/figures/latency_stages.pdf",
        png=report(
            "results/{run}/figures/latency_stages.png",
            caption="../report/latency_stages.rst",
            category="Cost",
            labels={"content": "time per stage"},
        ),
        csv="results/{run}/figures/latency_stages.csv",
    log:
        "logs/{run}/plot_stages.log",
    benchmark:
        "results/{run}/benchmarks/plot_stages.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_stages.py"),
        trackers=TRACKERS,
        about=about("stages", config),
        reconstruction=reconstruction(DATA),
    message:
        "Plot time per stage"
    script:
        "../scripts/plot_stages.py"


rule plot_latency_tiled:
    input:
        timing=expand(
            "results/{{run}}/tracks/tiled/{tracker}-timing.csv", tracker=TILED_TRACKERS
        ),
        runs=expand(
            "results/{{run}}/tracks/main/{tracker}-run.json", tracker=TILED_TRACKERS
        ),
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
    output:
        pdf="results/{run}/figures/latency_tiled.pdf",
        png=report(
            "results/{run}/figures/latency_tiled.png",
            caption="../report/latency_tiled.rst",
            category="Cost",
            labels={"content": "time against hits, tiled event"},
        ),
        csv="results/{run}/figures/latency_tiled.csv",
    log:
        "logs/{run}/plot_latency_tiled.log",
    benchmark:
        "results/{run}/benchmarks/plot_latency_tiled.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_latency_tiled.py"),
        about=about("tiled", config),
        reconstruction=reconstruction(DATA, padded=False),
        trackers=TILED_TRACKERS,
    message:
        "Plot time against hits, tiled"
    script:
        "../scripts/plot_latency_tiled.py"
