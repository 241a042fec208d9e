# One rule per figure; each writes PDF, PNG and its numbers as CSV.


rule plot_overview:
    input:
        metrics="results/{run}/tables/metrics.csv",
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
    output:
        overview_pdf="results/{run}/figures/overview.pdf",
        overview_png=report(
            "results/{run}/figures/overview.png",
            caption="../report/overview.rst",
            category="Comparison",
            labels={"content": "2 overview"},
        ),
        overview_csv="results/{run}/figures/overview.csv",
        differences_pdf="results/{run}/figures/differences.pdf",
        differences_png=report(
            "results/{run}/figures/differences.png",
            caption="../report/differences.rst",
            category="Comparison",
            labels={"content": "3 paired differences"},
        ),
        differences_csv="results/{run}/figures/differences.csv",
    log:
        "logs/{run}/plot_overview.log",
    benchmark:
        "results/{run}/benchmarks/plot_overview.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_overview.py"),
        selection=config["selection"],
        about=about("comparison", config),
        reconstruction=reconstruction(DATA),
        interval=config["evaluation"]["interval"],
    message:
        "Plot overview and differences"
    script:
        "../scripts/plot_overview.py"


rule plot_rates:
    input:
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
        frames=lambda wildcards: expand(
            "results/{run}/metrics/main/{tracker}-{frame}.parquet",
            run=wildcards.run,
            tracker=TRACKERS,
            frame="particles" if wildcards.kind == "efficiency" else "candidates",
        ),
    output:
        pt_pdf="results/{run}/figures/{kind}_pt.pdf",
        pt_png=report(
            "results/{run}/figures/{kind}_pt.png",
            caption="../report/rates.rst",
            category="Comparison",
            labels={"content": "4 {kind} against pT"},
        ),
        pt_csv="results/{run}/figures/{kind}_pt.csv",
        eta_pdf="results/{run}/figures/{kind}_eta.pdf",
        eta_png=report(
            "results/{run}/figures/{kind}_eta.png",
            caption="../report/rates.rst",
            category="Comparison",
            labels={"content": "5 {kind} against eta"},
        ),
        eta_csv="results/{run}/figures/{kind}_eta.csv",
        phi_pdf="results/{run}/figures/{kind}_phi.pdf",
        phi_png=report(
            "results/{run}/figures/{kind}_phi.png",
            caption="../report/rates.rst",
            category="Comparison",
            labels={"content": "6 {kind} against phi"},
        ),
        phi_csv="results/{run}/figures/{kind}_phi.csv",
        z0_pdf="results/{run}/figures/{kind}_z0.pdf",
        z0_png=report(
            "results/{run}/figures/{kind}_z0.png",
            caption="../report/rates.rst",
            category="Comparison",
            labels={"content": "7 {kind} against z0"},
        ),
        z0_csv="results/{run}/figures/{kind}_z0.csv",
    log:
        "logs/{run}/plot_rates/{kind}.log",
    benchmark:
        "results/{run}/benchmarks/plot_rates/{kind}.tsv"
    wildcard_constraints:
        kind="efficiency|fake_rate",
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_rates.py"),
        trackers=TRACKERS,
        variables=["pt", "eta", "phi", "z0"],
        selection=config["selection"],
        reference=config["evaluation"]["reference"],
        about=about("comparison", config),
        reconstruction=reconstruction(DATA),
        interval=config["evaluation"]["interval"],
    message:
        "Plot {wildcards.kind} against pT, eta, phi, z0"
    script:
        "../scripts/plot_rates.py"


rule plot_residuals:
    input:
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
        residuals=expand(
            "results/{{run}}/metrics/main/{tracker}-residuals.parquet",
            tracker=FITTING_TRACKERS,
        ),
    output:
        pulls_pdf="results/{run}/figures/pulls.pdf",
        pulls_png=report(
            "results/{run}/figures/pulls.png",
            caption="../report/pulls.rst",
            category="Track parameters",
            labels={"content": "1 pulls"},
        ),
        pulls_csv="results/{run}/figures/pulls.csv",
        secondary_pdf="results/{run}/figures/pulls_secondary.pdf",
        secondary_png=report(
            "results/{run}/figures/pulls_secondary.png",
            caption="../report/pulls.rst",
            category="Track parameters",
            labels={"content": "2 pulls of secondaries"},
        ),
        secondary_csv="results/{run}/figures/pulls_secondary.csv",
        residuals_pt_pdf="results/{run}/figures/residuals_pt.pdf",
        residuals_pt_png=report(
            "results/{run}/figures/residuals_pt.png",
            caption="../report/resolutions.rst",
            category="Track parameters",
            labels={"content": "3 resolution and bias against pT"},
        ),
        residuals_pt_csv="results/{run}/figures/residuals_pt.csv",
        residuals_eta_pdf="results/{run}/figures/residuals_eta.pdf",
        residuals_eta_png=report(
            "results/{run}/figures/residuals_eta.png",
            caption="../report/resolutions.rst",
            category="Track parameters",
            labels={"content": "4 resolution and bias against eta"},
        ),
        residuals_eta_csv="results/{run}/figures/residuals_eta.csv",
        pulls_pt_pdf="results/{run}/figures/pulls_pt.pdf",
        pulls_pt_png=report(
            "results/{run}/figures/pulls_pt.png",
            caption="../report/pull_profiles.rst",
            category="Track parameters",
            labels={"content": "5 pulls against pT"},
        ),
        pulls_pt_csv="results/{run}/figures/pulls_pt.csv",
        pulls_eta_pdf="results/{run}/figures/pulls_eta.pdf",
        pulls_eta_png=report(
            "results/{run}/figures/pulls_eta.png",
            caption="../report/pull_profiles.rst",
            category="Track parameters",
            labels={"content": "6 pulls against eta"},
        ),
        pulls_eta_csv="results/{run}/figures/pulls_eta.csv",
    log:
        "logs/{run}/plot_residuals.log",
    benchmark:
        "results/{run}/benchmarks/plot_residuals.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_residuals.py"),
        trackers=FITTING_TRACKERS,
        selection=config["selection"],
        about=about("comparison", config),
        reconstruction=reconstruction(DATA),
    message:
        "Plot pulls and resolutions of track parameters"
    script:
        "../scripts/plot_residuals.py"


rule plot_attention:
    input:
        surfaces="results/{run}/tables/surfaces.csv",
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
    output:
        pdf="results/{run}/figures/attention.pdf",
        png=report(
            "results/{run}/figures/attention.png",
            caption="../report/attention.rst",
            category="Surface projection",
            labels={"content": "2 recon. ratio against attention"},
        ),
        csv="results/{run}/figures/attention.csv",
    log:
        "logs/{run}/plot_attention.log",
    benchmark:
        "results/{run}/benchmarks/plot_attention.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_attention.py"),
        about=about("surfaces", config),
    message:
        "Plot attention masks"
    script:
        "../scripts/plot_attention.py"


rule plot_projection:
    input:
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
    output:
        pdf="results/{run}/figures/projection.pdf",
        png=report(
            "results/{run}/figures/projection.png",
            caption="../report/projection.rst",
            category="Surface projection",
            labels={"content": "3 projected hits"},
        ),
        csv="results/{run}/figures/projection.csv",
    log:
        "logs/{run}/plot_projection.log",
    benchmark:
        "results/{run}/benchmarks/plot_projection.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_projection.py"),
        about=about("event", config),
        selection=config["selection"],
    message:
        "Plot projected hits"
    script:
        "../scripts/plot_projection.py"


rule plot_display:
    input:
        index="results/{run}/prepared/main/index.csv",
        manifest="results/{run}/prepared/main/manifest.json",
        tracks=f"results/{{run}}/tracks/main/{config['evaluation']['reference']}.parquet",
    output:
        pdf="results/{run}/figures/event_display.pdf",
        png=report(
            "results/{run}/figures/event_display.png",
            caption="../report/event_display.rst",
            category="Event display",
            labels={"content": "transverse and r-z view"},
        ),
        csv="results/{run}/figures/event_display.csv",
        # Not in the report: browsers refuse to show embedded pages of more than 2 MB.
        page="results/{run}/figures/event_display_3d.html",
    log:
        "logs/{run}/plot_display.log",
    benchmark:
        "results/{run}/benchmarks/plot_display.tsv"
    conda:
        "../../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=20,
    params:
        code=digest("plot_display.py"),
        about=about("event", config),
        tracker=config["evaluation"]["reference"],
        selection=config["selection"],
    message:
        "Draw one event"
    script:
        "../scripts/plot_display.py"
