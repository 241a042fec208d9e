# Sets of whole events, of low pile-up for one: networks are trained on them (train.smk), all rows compared on their
# test events. Simulation, preparation, index and evaluation are those of every sample.

COLLISION_SAMPLE = "|".join(COLLISION_SETS or ["none"])


use rule tune_subevents as tune_collisions with:
    wildcard_constraints:
        sample=COLLISION_SAMPLE,
    params:
        code=row_digest("tune.py"),
        tracker=lambda wildcards: row_of(wildcards).tracker,
        settings=row_settings,
        selection=config["selection"],
        metric="dm",
        events=COLLISIONS["tuning"]["events"],
        seed=config["seed"],
        sectors={"count": 1, "overlap": 0},


# Side by side, not alone on the machine: the tables have CPU time.
use rule reconstruct_subevents as reconstruct_collisions with:
    wildcard_constraints:
        sample=COLLISION_SAMPLE,


use rule tables as tables_collisions with:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        manifest="results/{run}/prepared/{sample}/manifest.json",
        counts=collision_files("metrics", "counts.csv"),
        particles=collision_files("metrics", "particles.parquet"),
        candidates=collision_files("metrics", "candidates.parquet"),
        timing=collision_files("tracks", "timing.csv"),
        runs=collision_files("tracks", "run.json"),
        kept=metrics_of_origin,
        published="config/published.csv",
    output:
        metrics=report(
            "results/{run}/tables/metrics_{sample}.csv",
            caption="../report/metrics.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "9 all metrics (csv), {sample}"},
        ),
        page=report(
            "results/{run}/tables/summary_{sample}.html",
            caption="../report/summary_collisions.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "1 summary table, {sample}"},
        ),
        markdown="results/{run}/tables/summary_{sample}.md",
        latex="results/{run}/tables/summary_{sample}.tex",
    log:
        "logs/{run}/tables/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/tables/{sample}.tsv"
    wildcard_constraints:
        sample=COLLISION_SAMPLE,
    params:
        code=digest("tables.py"),
        title=lambda wildcards: f"Trackers on the sample {wildcards.sample}",
        trackers=shown_names,
        selection=config["selection"],
        evaluation=collision_evaluation,
        seed=config["seed"],
        reconstruction="",
        side_by_side=True,
        conventions=True,
        sample="{sample}",
        origin=lambda wildcards: origin_of(config, wildcards.sample),
        about=about_collisions,
        interval=config["evaluation"]["interval"],
    message:
        "Write the tables of {wildcards.sample}"


use rule plot_overview as plot_overview_collisions with:
    input:
        metrics="results/{run}/tables/metrics_{sample}.csv",
        index="results/{run}/prepared/{sample}/index.csv",
        manifest="results/{run}/prepared/{sample}/manifest.json",
    output:
        overview_pdf="results/{run}/figures/overview_{sample}.pdf",
        overview_png=report(
            "results/{run}/figures/overview_{sample}.png",
            caption="../report/overview.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "2 overview, {sample}"},
        ),
        overview_csv="results/{run}/figures/overview_{sample}.csv",
        differences_pdf="results/{run}/figures/differences_{sample}.pdf",
        differences_png=report(
            "results/{run}/figures/differences_{sample}.png",
            caption="../report/differences.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "3 paired differences, {sample}"},
        ),
        differences_csv="results/{run}/figures/differences_{sample}.csv",
    log:
        "logs/{run}/plot_overview/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/plot_overview/{sample}.tsv"
    wildcard_constraints:
        sample=COLLISION_SAMPLE,
    params:
        code=digest("plot_overview.py"),
        selection=config["selection"],
        about=about_collisions,
        reconstruction="",
        interval=config["evaluation"]["interval"],
    message:
        "Plot overview and differences of {wildcards.sample}"


use rule plot_rates as plot_rates_collisions with:
    input:
        index="results/{run}/prepared/{sample}/index.csv",
        manifest="results/{run}/prepared/{sample}/manifest.json",
        frames=lambda wildcards: collision_files(
            "metrics",
            {"efficiency": "particles", "fake_rate": "candidates"}[wildcards.kind]
            + ".parquet",
        )(wildcards),
    output:
        pt_pdf="results/{run}/figures/{kind}_pt_{sample}.pdf",
        pt_png=report(
            "results/{run}/figures/{kind}_pt_{sample}.png",
            caption="../report/rates.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "4 {kind} against pT, {sample}"},
        ),
        pt_csv="results/{run}/figures/{kind}_pt_{sample}.csv",
        eta_pdf="results/{run}/figures/{kind}_eta_{sample}.pdf",
        eta_png=report(
            "results/{run}/figures/{kind}_eta_{sample}.png",
            caption="../report/rates.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "5 {kind} against eta, {sample}"},
        ),
        eta_csv="results/{run}/figures/{kind}_eta_{sample}.csv",
    log:
        "logs/{run}/plot_rates/{sample}-{kind}.log",
    benchmark:
        "results/{run}/benchmarks/plot_rates/{sample}-{kind}.tsv"
    wildcard_constraints:
        sample=COLLISION_SAMPLE,
        kind="efficiency|fake_rate",
    params:
        code=digest("plot_rates.py"),
        trackers=shown_names,
        variables=["pt", "eta"],
        selection=config["selection"],
        reference=rate_reference,
        about=about_collisions,
        reconstruction="",
        interval=config["evaluation"]["interval"],
    message:
        "Plot {wildcards.kind} of {wildcards.sample} against pT and eta"


# CPU time only, so other jobs may run beside it.
rule post_processing:
    input:
        unpack(post_processing_inputs),
        index="results/{run}/prepared/{sample}/index.csv",
        manifest="results/{run}/prepared/{sample}/manifest.json",
    output:
        csv=report(
            "results/{run}/tables/post_processing_{sample}.csv",
            caption="../report/post_processing.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "7 after the network, all values (csv), {sample}"},
        ),
        page=report(
            "results/{run}/tables/post_processing_{sample}.html",
            caption="../report/post_processing.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "6 after the network, table, {sample}"},
        ),
        markdown="results/{run}/tables/post_processing_{sample}.md",
    log:
        "logs/{run}/post_processing/{sample}.log",
    benchmark:
        "results/{run}/benchmarks/post_processing/{sample}.tsv"
    wildcard_constraints:
        sample="|".join(POST_PROCESSING or ["none"]),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=lambda wildcards: gpus(
            post_processing_row(wildcards).model, wildcards.sample
        ),
        mem_mb=8000,
        runtime=240,
    params:
        code=digest("post_processing.py"),
        row=post_processing_name,
        tracker=lambda wildcards: post_processing_row(wildcards).tracker,
        settings=lambda wildcards: post_processing_row(wildcards).settings,
        kmeans=KMEANS_TURNS,
        selection=config["selection"],
        seed=config["seed"],
        about=about_collisions,
    message:
        "Measure the steps after the network on {wildcards.sample}"
    script:
        "../scripts/post_processing.py"


rule plot_ablation:
    input:
        manifest="results/{run}/prepared/{sample}/manifest.json",
        counts=ablation_files("metrics", "counts.csv"),
        timing=ablation_files("tracks", "timing.csv"),
        facts=ablation_facts,
        published="config/published.csv",
    output:
        pdf="results/{run}/figures/ablation_{ablation}_{sample}.pdf",
        png=report(
            "results/{run}/figures/ablation_{ablation}_{sample}.png",
            caption="../report/ablation.rst",
            category=COLLISION_CATEGORY,
            labels={"content": "8 ablation {ablation}, {sample}"},
        ),
        csv="results/{run}/figures/ablation_{ablation}_{sample}.csv",
    log:
        "logs/{run}/plot_ablation/{ablation}-{sample}.log",
    benchmark:
        "results/{run}/benchmarks/plot_ablation/{ablation}-{sample}.tsv"
    wildcard_constraints:
        sample=COLLISION_SAMPLE,
        ablation="|".join(COLLISIONS["ablations"]) or "none",
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=digest("plot_ablation.py"),
        title=lambda wildcards: (
            ablation_block(wildcards)["title"] or wildcards.ablation
        ),
        rows=ablation_described,
        axis=ablation_axis,
        remarks=ablation_notes,
        quoted=quotes_blocks,
        selection=config["selection"],
        evaluation=collision_evaluation,
        seed=config["seed"],
        about=about_collisions,
    message:
        "Plot the ablation {wildcards.ablation} on {wildcards.sample}"
    script:
        "../scripts/plot_ablation.py"


# Not part of `all`, which asks for the same files: the ablations without the rest of the workflow.
rule ablations:
    input:
        ablation_results(),
        ablation_tables(),
    message:
        "All ablations are there"
