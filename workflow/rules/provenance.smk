# What made the results: threads, machine and versions of every manifest of the run.


rule provenance:
    input:
        manifests=manifests(),
    output:
        csv="results/{run}/tables/provenance.csv",
        markdown="results/{run}/tables/provenance.md",
        page=report(
            "results/{run}/tables/provenance.html",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"content": "threads, machine and versions of each result"},
        ),
    log:
        "logs/{run}/provenance.log",
    benchmark:
        "results/{run}/benchmarks/provenance.tsv"
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=digest("provenance.py"),
        folder="results/{run}",
    message:
        "Collect what made each result"
    script:
        "../scripts/provenance.py"
