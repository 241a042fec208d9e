# Tables and figures of the Trackformers' first phase, on sub-events of few tracks.

FIRST_PHASE = [
    {
        "set": name,
        "row": row,
        "kind": row_kind(row),
        "label": row_label(row, name),
        "trained_on": name if row_kind(row) == "trained" else "",
    }
    for name in SETS
    for row in (*rows_of_set(config, name), *CEILINGS)
]
MATRIX = [
    {
        "set": name,
        "row": row,
        "file": file,
        "kind": "trained",
        "label": row_label(row, trained_on),
        "trained_on": trained_on,
    }
    for row in SUBEVENTS["matrix"]
    for name in SETS
    for trained_on in sets_with_weights(config, SUBEVENTS["trackers"][row]["model"])
    for file in [row if trained_on == name else f"{row}@{trained_on}"]
]
MATRIX += [
    {"set": name, "row": row, "file": row, "kind": row_kind(row)}
    for name in SETS
    for row in (FLOOR, CEILINGS[0], CLASS_CEILING)
]
QUOTED_ROW = "EncReg"


rule trackformers_table:
    input:
        files=[
            path
            for row in FIRST_PHASE
            for path in evaluated_files(row["set"], row["row"], row["kind"])
        ],
        manifest=f"results/{{run}}/prepared/tracks-{FIRST_SET}/manifest.json",
        published="config/published_trackformers.csv",
    output:
        csv=report(
            "results/{run}/tables/trackformers.csv",
            caption="../report/trackformers.rst",
            category="Few tracks",
            labels={"content": "9 first phase, all columns (csv)"},
        ),
        page=report(
            "results/{run}/tables/trackformers.html",
            caption="../report/trackformers.rst",
            category="Few tracks",
            labels={"content": "1 first phase, table"},
        ),
        markdown="results/{run}/tables/trackformers.md",
        latex="results/{run}/tables/trackformers.tex",
    log:
        "logs/{run}/trackformers_table.log",
    benchmark:
        "results/{run}/benchmarks/trackformers_table.tsv"
    conda:
        "../../envs/light.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("trackformers_table.py"),
        rows=FIRST_PHASE,
        replicas=config["evaluation"]["replicas"],
        seed=config["seed"],
        title="Trackers on sub-events of few tracks",
        about=about("subevents", config),
    message:
        "Write the table of the first phase"
    script:
        "../scripts/trackformers_table.py"


rule plot_matrix:
    input:
        files=[
            f"results/{RUN}/metrics/tracks-{row['set']}/{row['file']}-counts.csv"
            for row in MATRIX
        ],
        manifest=f"results/{{run}}/prepared/tracks-{FIRST_SET}/manifest.json",
        published="config/published_trackformers.csv",
    output:
        pdf="results/{run}/figures/matrix.pdf",
        png=report(
            "results/{run}/figures/matrix.png",
            caption="../report/matrix.rst",
            category="Few tracks",
            labels={"content": "3 trained on one set, tested on another"},
        ),
        csv="results/{run}/figures/matrix.csv",
        page="results/{run}/tables/matrix.html",
        markdown="results/{run}/tables/matrix.md",
    log:
        "logs/{run}/plot_matrix.log",
    benchmark:
        "results/{run}/benchmarks/plot_matrix.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_matrix.py"),
        rows=MATRIX,
        quoted_as={row: "EncReg" for row in SUBEVENTS["matrix"] if row == "encreg"},
        title="Trained on one data set, tested on another",
        about=about("subevents", config),
    message:
        "Plot the train-test matrix"
    script:
        "../scripts/plot_matrix.py"


rule plot_fit_accuracy:
    input:
        particles=lambda wildcards: [
            f"results/{RUN}/metrics/tracks-{wildcards.set}/{row}-particles.parquet"
            for row in shown_rows(wildcards.set)
        ],
        manifest="results/{run}/prepared/tracks-{set}/manifest.json",
    output:
        pdf="results/{run}/figures/fit_accuracy_{set}.pdf",
        png=report(
            "results/{run}/figures/fit_accuracy_{set}.png",
            caption="../report/fit_accuracy.rst",
            category="Few tracks",
            labels={"content": "2 FitAccuracy and efficiency, {set} tracks"},
        ),
        csv="results/{run}/figures/fit_accuracy_{set}.csv",
    log:
        "logs/{run}/plot_fit_accuracy/{set}.log",
    benchmark:
        "results/{run}/benchmarks/plot_fit_accuracy/{set}.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_fit_accuracy.py"),
        set="{set}",
        rows=lambda wildcards: shown_rows(wildcards.set),
        labels=lambda wildcards: shown_labels(wildcards.set),
        seed=config["seed"],
        about=about("subevents", config),
    message:
        "Plot FitAccuracy and efficiency of {wildcards.set} tracks"
    script:
        "../scripts/plot_fit_accuracy.py"


rule predictions:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        weights=row_weights,
    output:
        predictions="results/{run}/predictions/{sample}/{tracker}.parquet",
    log:
        "logs/{run}/predictions/{sample}-{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/predictions/{sample}-{tracker}.tsv"
    wildcard_constraints:
        sample=SET_SAMPLE,
        tracker=ROW,
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=row_gpus,
        mem_mb=4000,
        runtime=60,
    params:
        code=digest("predictions.py"),
        events=PREDICTED_EVENTS,
    message:
        "Network outputs of {wildcards.tracker} on {wildcards.sample}"
    script:
        "../scripts/predictions.py"


rule plot_parameters:
    input:
        predictions=lambda wildcards: [
            f"results/{RUN}/predictions/tracks-{wildcards.set}/{row}.parquet"
            for row in predicted_rows(wildcards.set)
        ],
        manifest="results/{run}/prepared/tracks-{set}/manifest.json",
        published="config/published_trackformers.csv",
    output:
        others=expand(
            "results/{{run}}/figures/parameters_{row}_{{set}}.{kind}",
            row=SUBEVENTS["predictions"],
            kind=("pdf", "csv"),
        ),
        maps=report(
            expand(
                "results/{{run}}/figures/parameters_{row}_{{set}}.png",
                row=SUBEVENTS["predictions"],
            ),
            caption="../report/parameters.rst",
            category="Few tracks",
            labels={"content": "5 network outputs against the truth, {set} tracks"},
        ),
        widths_png=report(
            "results/{run}/figures/parameter_widths_{set}.png",
            caption="../report/parameters.rst",
            category="Few tracks",
            labels={"content": "6 widths of residuals, {set} tracks"},
        ),
        widths_pdf="results/{run}/figures/parameter_widths_{set}.pdf",
        widths_csv="results/{run}/figures/parameter_widths_{set}.csv",
        page="results/{run}/tables/parameter_widths_{set}.html",
    log:
        "logs/{run}/plot_parameters/{set}.log",
    benchmark:
        "results/{run}/benchmarks/plot_parameters/{set}.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        code=digest("plot_parameters.py"),
        set="{set}",
        rows=lambda wildcards: predicted_rows(wildcards.set),
        labels=lambda wildcards: shown_labels(wildcards.set),
        quoted_row=QUOTED_ROW,
        title="Widths of the residuals of network outputs",
        about=about("subevents", config),
    message:
        "Plot network outputs against the truth, {wildcards.set} tracks"
    script:
        "../scripts/plot_parameters.py"


rule plot_training:
    input:
        histories=[
            f"results/{RUN}/models/{model}/{name}-history.csv"
            for model, name in CURVES
        ],
        facts=[
            f"results/{RUN}/models/{model}/{name}-facts.json" for model, name in CURVES
        ],
        manifests=[
            f"results/{{run}}/prepared/{sample_of(name)}/manifest.json"
            for name in TRAINED_SETS
        ],
    output:
        pdf="results/{run}/figures/training.pdf",
        png=report(
            "results/{run}/figures/training.png",
            caption="../report/training.rst",
            category="Few tracks" if SETS else COLLISION_CATEGORY,
            labels={"content": "4 loss curves"},
        ),
        csv="results/{run}/figures/training.csv",
    log:
        "logs/{run}/plot_training.log",
    benchmark:
        "results/{run}/benchmarks/plot_training.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("plot_training.py"),
        about=about("training", config),
    message:
        "Plot loss curves"
    script:
        "../scripts/plot_training.py"
