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
            labels={"content": "all columns, measured and quoted"},
        ),
        markdown=report(
            "results/{run}/tables/surfaces.md",
            caption="../report/surfaces.rst",
            category="Surface projection",
            labels={"content": "table beside the talk's"},
        ),
    log:
        "logs/{run}/surfaces.log",
    benchmark:
        "results/{run}/benchmarks/surfaces.tsv"
    conda:
        "../../envs/cluster.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=all_trackers_digest("surfaces.py", config["surfaces"]),
        settings=config["surfaces"],
        seed=config["seed"],
    script:
        "../scripts/surfaces.py"
