# Surface projection as an attention mask: the talk's table of both regions.


rule surfaces:
    input:
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
        talk="config/talk_surfaces.csv",
    output:
        csv=report(
            "results/{run}/tables/surfaces.csv",
            caption="../report/surfaces.rst",
            category="Surface projection",
            labels={"content": "9 all columns (csv)"},
        ),
        page=report(
            "results/{run}/tables/surfaces.html",
            caption="../report/surfaces.rst",
            category="Surface projection",
            labels={"content": "1 table beside the talk's"},
        ),
        markdown="results/{run}/tables/surfaces.md",
    log:
        "logs/{run}/surfaces.log",
    benchmark:
        "results/{run}/benchmarks/surfaces.tsv"
    conda:
        environment_of(config["surfaces"])
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=all_trackers_digest("surfaces.py", config["surfaces"]),
        settings=config["surfaces"],
        seed=config["seed"],
        about=about("surfaces", config),
        interval=config["evaluation"]["interval"],
    message:
        "Score surface-projection clusterers as attention masks"
    script:
        "../scripts/surfaces.py"
