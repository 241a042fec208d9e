# Tables and figures of the Trackformers' first phase and its studies, on sub-events of few tracks.

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
    for trained_on in config["models"][SUBEVENTS["trackers"][row]["model"]]["sets"]
    for file in [row if trained_on == name else f"{row}@{trained_on}"]
]
MATRIX += [
    {"set": name, "row": row, "file": row, "kind": row_kind(row)}
    for name in SETS
    for row in (FLOOR, CEILINGS[0])
]
QUOTED_ROW = "EncReg"


rule trackformers_table:
    input:
        files=[
            path
            for row in FIRST_PHASE
            for path in evaluated_files(row["set"], row["row"], row["kind"])
        ],
        manifest="results/{run}/prepared/tracks-" + (SETS or [""])[0] + "/manifest.json",
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
        manifest="results/{run}/prepared/tracks-" + (SETS or [""])[0] + "/manifest.json",
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


rule label_noise:
    input:
        index="results/{run}/prepared/tracks-{set}/index.csv",
        manifest="results/{run}/prepared/tracks-{set}/manifest.json",
    output:
        csv="results/{run}/tables/label_noise_{set}.csv",
    log:
        "logs/{run}/label_noise/{set}.log",
    benchmark:
        "results/{run}/benchmarks/label_noise/{set}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        code=digest("label_noise.py"),
        scales=SUBEVENTS["label_noise"],
        seed=config["seed"],
    message:
        "Cluster true targets with noise, {wildcards.set} tracks"
    script:
        "../scripts/label_noise.py"


rule plot_label_noise:
    input:
        table="results/{run}/tables/label_noise_{set}.csv",
        manifest="results/{run}/prepared/tracks-{set}/manifest.json",
        published="config/published_trackformers.csv",
    output:
        pdf="results/{run}/figures/label_noise_{set}.pdf",
        png=report(
            "results/{run}/figures/label_noise_{set}.png",
            caption="../report/label_noise.rst",
            category="Few tracks",
            labels={"content": "7 label noise, {set} tracks"},
        ),
        csv="results/{run}/figures/label_noise_{set}.csv",
    log:
        "logs/{run}/plot_label_noise/{set}.log",
    benchmark:
        "results/{run}/benchmarks/plot_label_noise/{set}.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("plot_label_noise.py"),
        set="{set}",
        about=about("subevents", config),
    message:
        "Plot the label-noise study, {wildcards.set} tracks"
    script:
        "../scripts/plot_label_noise.py"


rule plot_training:
    input:
        histories=[
            f"results/{RUN}/models/{model}/{name}-history.csv"
            for model, name in TRAINED
        ],
        facts=[
            f"results/{RUN}/models/{model}/{name}-facts.json"
            for model, name in TRAINED
        ],
        manifest="results/{run}/prepared/tracks-" + (SETS or [""])[0] + "/manifest.json",
    output:
        pdf="results/{run}/figures/training.pdf",
        png=report(
            "results/{run}/figures/training.png",
            caption="../report/training.rst",
            category="Few tracks",
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
        about=about("subevents", config),
    message:
        "Plot loss curves"
    script:
        "../scripts/plot_training.py"


rule track_latency:
    input:
        unpack(latency_inputs),
        index="results/{run}/prepared/parents/index.csv",
    output:
        timing="results/{run}/tracks/latency/{tracker}-timing.csv",
    log:
        "logs/{run}/track_latency/{tracker}.log",
    benchmark:
        "results/{run}/benchmarks/track_latency/{tracker}.tsv"
    wildcard_constraints:
        tracker=ROW,
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=lambda wildcards: gpus(
            latency_row(wildcards).model, latency_row(wildcards).trained_on
        ),
        mem_mb=16000,
        runtime=120,
    params:
        code=lambda wildcards: digest(
            "track_latency.py", *row_modules(latency_row(wildcards))
        ),
        tracker=lambda wildcards: latency_row(wildcards).tracker,
        settings=lambda wildcards: latency_row(wildcards).settings,
        tracks=SUBEVENTS["latency"]["tracks"],
        calls=SUBEVENTS["latency"]["calls"],
        limit_s=LATENCY_LIMIT_S,
        events=LATENCY_EVENTS,
        devices=["cpu", "cuda"],
        seed=config["seed"],
    message:
        "Time {wildcards.tracker} against the number of tracks"
    script:
        "../scripts/track_latency.py"


rule plot_track_latency:
    input:
        timing=expand(
            "results/{{run}}/tracks/latency/{tracker}-timing.csv",
            tracker=SUBEVENTS["latency"]["trackers"],
        ),
        manifest="results/{run}/prepared/parents/manifest.json",
        published="config/published_trackformers.csv",
    output:
        pdf="results/{run}/figures/track_latency.pdf",
        png=report(
            "results/{run}/figures/track_latency.png",
            caption="../report/track_latency.rst",
            category="Cost",
            labels={"content": "network and clustering against tracks"},
        ),
        csv="results/{run}/figures/track_latency.csv",
    log:
        "logs/{run}/plot_track_latency.log",
    benchmark:
        "results/{run}/benchmarks/plot_track_latency.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("plot_track_latency.py"),
        labels={
            row: row_label(row, row.partition("@")[2])
            for row in SUBEVENTS["latency"]["trackers"]
        },
        about=about("subevents", config),
    message:
        "Plot time against the number of tracks"
    script:
        "../scripts/plot_track_latency.py"


rule decomposition:
    input:
        **decomposition_inputs(),
        index=f"results/{{run}}/prepared/tracks-{SUBEVENTS['decomposition']['set']}/index.csv",
        manifest=f"results/{{run}}/prepared/tracks-{SUBEVENTS['decomposition']['set']}/manifest.json",
    output:
        csv=report(
            "results/{run}/tables/decomposition.csv",
            caption="../report/decomposition.rst",
            category="Attention",
            labels={"content": "6 phi sectors, all columns (csv)"},
        ),
        page=report(
            "results/{run}/tables/decomposition.html",
            caption="../report/decomposition.rst",
            category="Attention",
            labels={"content": "5 phi sectors, table"},
        ),
        markdown="results/{run}/tables/decomposition.md",
        pdf="results/{run}/figures/decomposition.pdf",
        png=report(
            "results/{run}/figures/decomposition.png",
            caption="../report/decomposition.rst",
            category="Attention",
            labels={"content": "4 phi sectors against the whole event"},
        ),
        figure_csv="results/{run}/figures/decomposition.csv",
    log:
        "logs/{run}/decomposition.log",
    benchmark:
        "results/{run}/benchmarks/decomposition.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=gpus(decomposition_row().model, decomposition_row().trained_on),
        mem_mb=8000,
        runtime=120,
    params:
        code=decomposition_digest(),
        row=decomposition_name(),
        tracker=decomposition_row().tracker,
        settings=decomposition_row().settings,
        counts=SUBEVENTS["decomposition"]["sectors"],
        overlaps=SUBEVENTS["decomposition"]["overlaps"],
        limit=SUBEVENTS["decomposition"]["events"],
        selection=SUBEVENT_SELECTION,
        seed=config["seed"],
        about=about("subevents", config),
    message:
        "Reconstruct in phi sectors"
    script:
        "../scripts/decomposition.py"


rule masks:
    input:
        index=f"results/{{run}}/prepared/tracks-{SUBEVENTS['masks']['set']}/index.csv",
        manifest=f"results/{{run}}/prepared/tracks-{SUBEVENTS['masks']['set']}/manifest.json",
    output:
        csv=report(
            "results/{run}/tables/masks.csv",
            caption="../report/masks.rst",
            category="Attention",
            labels={"content": "9 attention masks, every measurement (csv)"},
        ),
        page=report(
            "results/{run}/tables/masks.html",
            caption="../report/masks.rst",
            category="Attention",
            labels={"content": "1 attention masks, table"},
        ),
        markdown="results/{run}/tables/masks.md",
    log:
        "logs/{run}/masks.log",
    benchmark:
        "results/{run}/benchmarks/masks.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=max((gpus(*trained) for trained in TRAINED), default=0),
        mem_mb=16000,
        runtime=120,
    params:
        code=digest("masks.py", "trackbench.trackers.density_peaks"),
        settings=None,
        events=SUBEVENTS["masks"]["events"],
        sizes=SUBEVENTS["masks"]["sizes"],
        seed=config["seed"],
        about=about("subevents", config),
    message:
        "Measure attention masks"
    script:
        "../scripts/masks.py"


rule plot_masks:
    input:
        masks="results/{run}/tables/masks.csv",
        manifest=f"results/{{run}}/prepared/tracks-{SUBEVENTS['masks']['set']}/manifest.json",
    output:
        pdf="results/{run}/figures/masks.pdf",
        png=report(
            "results/{run}/figures/masks.png",
            caption="../report/masks.rst",
            category="Attention",
            labels={"content": "2 attention masks: what they keep and cost"},
        ),
        csv="results/{run}/figures/masks.csv",
        sizes_pdf="results/{run}/figures/masks_scaling.pdf",
        sizes=report(
            "results/{run}/figures/masks_scaling.png",
            caption="../report/masks.rst",
            category="Attention",
            labels={"content": "3 attention masks: time and memory against hits"},
        ),
        sizes_csv="results/{run}/figures/masks_scaling.csv",
    log:
        "logs/{run}/plot_masks.log",
    benchmark:
        "results/{run}/benchmarks/plot_masks.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_masks.py"),
        about=about("subevents", config),
    message:
        "Plot attention masks of networks"
    script:
        "../scripts/plot_masks.py"
