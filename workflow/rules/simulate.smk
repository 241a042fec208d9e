# Simulated events: the TrackML detector table, the generator's initialisation, shards of events.


rule detectors:
    output:
        table="results/{run}/tables/detectors.csv",
    log:
        "logs/{run}/detectors.log",
    benchmark:
        "results/{run}/benchmarks/detectors.tsv"
    conda:
        "../../envs/simulate.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=digest("detectors.py"),
    message:
        "Build the detector table"
    script:
        "../scripts/detectors.py"


rule generator:
    output:
        cache=directory("results/{run}/generator"),
    log:
        "logs/{run}/generator.log",
    benchmark:
        "results/{run}/benchmarks/generator.tsv"
    conda:
        "../../envs/simulate.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=digest("generator.py"),
        hard_process=DATA["simulate"]["hard_process"],
    message:
        "Initialise the event generator"
    script:
        "../scripts/generator.py"


rule simulate:
    input:
        cache="results/{run}/generator",
    output:
        manifest="results/{run}/events/{sample}/shard-{shard}/manifest.json",
    log:
        "logs/{run}/simulate/{sample}-{shard}.log",
    benchmark:
        "results/{run}/benchmarks/simulate/{sample}-{shard}.tsv"
    conda:
        "../../envs/simulate.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        code=digest("simulate.py"),
        settings=simulation_settings,
        events=event_numbers,
        drawn_as=drawn_as,
    message:
        "Simulate {wildcards.sample} shard {wildcards.shard}"
    script:
        "../scripts/simulate.py"


rule validate_simulation:
    input:
        manifests=expand(
            "results/{{run}}/events/main/shard-{shard}/manifest.json",
            shard=shards("main"),
        ),
    output:
        table=report(
            "results/{run}/tables/simulation.csv",
            caption="../report/simulation.rst",
            category="Simulation",
            labels={"content": "simulated against real quantities"},
        ),
        pdf="results/{run}/figures/simulation.pdf",
        png=report(
            "results/{run}/figures/simulation.png",
            caption="../report/simulation.rst",
            category="Simulation",
            labels={"content": "validation of the simulation"},
        ),
        csv="results/{run}/figures/simulation.csv",
    log:
        "logs/{run}/validate_simulation.log",
    benchmark:
        "results/{run}/benchmarks/validate_simulation.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        code=digest("validate_simulation.py"),
        about=about("simulation", config),
    message:
        "Compare the simulation with real events"
    script:
        "../scripts/validate_simulation.py"
