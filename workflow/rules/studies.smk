# Studies on sub-events of few tracks: label noise, time against tracks, phi sectors, attention masks.


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
        "../../envs/cluster.yaml"
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
        environment
    threads: 1
    resources:
        cpus_per_task=1,  # of a batch system, whatever the threads of profiles/default
        gpu=lambda wildcards: gpus(
            latency_row(wildcards).model, latency_row(wildcards).trained_on
        ),
        mem_mb=LATENCY_MEMORY_MB,
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
        memory_mb=LATENCY_MEMORY_MB,
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
        cpus_per_task=1,  # of a batch system, whatever the threads of profiles/default
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
