# Download of the real data. The rule runs only when data.source is kaggle.


localrules:
    download,


rule download:
    output:
        archive="{directory}/{{archive}}.zip".format(
            directory=DATA["kaggle"]["directory"]
        ),
    log:
        "logs/download/{archive}.log",
    benchmark:
        "results/benchmarks/download/{archive}.tsv"
    conda:
        "../../envs/kaggle.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        code=digest("download.py"),
    message:
        "Download {wildcards.archive}.zip from Kaggle"
    script:
        "../scripts/download.py"
