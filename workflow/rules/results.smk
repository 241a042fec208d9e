# Helpers: every result that `rule all` asks for, by configuration.
FIT_FIGURES = [
    "pulls",
    "pulls_secondary",
    *(
        f"{kind}_{variable}"
        for kind in ("residuals", "pulls")
        for variable in ("pt", "eta")
    ),
]
FIGURES = [
    "overview",
    *(
        f"{kind}_{variable}"
        for kind in ("efficiency", "fake_rate")
        for variable in ("pt", "eta", "phi", "z0")
    ),
    "differences",
    *FIT_FIGURES,
    "attention",
    "latency_pileup",
    "latency_stages",
    "latency_tiled",
    "effects",
    "projection",
    "event_display",
    "simulation",
]


def figure_names():
    """Figures of this run: those without input in this configuration are left out."""
    absent = set()
    if not is_simulated("main"):
        absent.add("simulation")
    if not config["scan"]["tiling"] or not TILED_TRACKERS:
        absent.add("latency_tiled")
    if not config["surfaces"]:
        absent |= {"attention"}
    if not EFFECTS:
        absent.add("effects")
    if len(TRACKERS) < 2:
        absent.add("differences")
    if not FITTING_TRACKERS:
        absent.update(FIT_FIGURES)
    return [name for name in FIGURES if name not in absent]


def final_results():
    """Everything `rule all` asks for."""
    results = Path("results", RUN)
    tables = ["metrics.csv", "summary.html", "summary.md", "summary.tex"]
    tables += ["provenance.csv", "provenance.html", "provenance.md"]
    if config["surfaces"]:
        tables += ["surfaces.csv", "surfaces.html", "surfaces.md"]
    if EFFECTS:
        tables += ["effects.csv", "effects.html", "effects.md"]
    if is_simulated("main"):
        tables += ["simulation.csv", "detectors.csv"]
    return [
        *(str(results / "tables" / name) for name in tables),
        *(
            str(results / "figures" / f"{name}.{kind}")
            for name in figure_names()
            for kind in ("pdf", "png", "csv")
        ),
        str(results / "figures" / "event_display_3d.html"),
        *first_phase_results(),
        *training_results(),
        *collision_results(),
        *scaling_results(),
    ]


def training_results():
    """Figure of the loss curves."""
    return [
        f"results/{RUN}/figures/training.{k}" for k in ("pdf", "png", "csv") if CURVES
    ]


def ablation_results():
    """Figures of the ablations."""
    return [
        f"results/{RUN}/figures/ablation_{name}_{set_name}.{kind}"
        for name, set_name in ABLATIONS
        for kind in ("pdf", "png", "csv")
    ]


def ablation_tables():
    """Tables of all rows of their sets."""
    return [
        f"results/{RUN}/tables/{table}_{set_name}.{kind}"
        for set_name in dict.fromkeys(set_name for _, set_name in ABLATIONS)
        for table, kind in (("metrics", "csv"), ("summary", "md"))
    ]


def collision_results():
    """Tables and figures of the sets of whole events."""
    tables = ("metrics_{}.csv", "summary_{}.html", "summary_{}.md", "summary_{}.tex")
    results = []
    for name in COLLISION_SETS:
        figures = [
            f
            for f in COLLISION_FIGURES
            if len(rows_of_set(config, name)) > 1 or f != "differences"
        ]
        results += [f"results/{RUN}/tables/{table.format(name)}" for table in tables]
        results += [
            f"results/{RUN}/figures/{figure}_{name}.{kind}"
            for figure in figures
            for kind in ("pdf", "png", "csv")
        ]
    results += [
        f"results/{RUN}/tables/post_processing_{name}.{kind}"
        for name in POST_PROCESSING
        for kind in ("csv", "html", "md")
    ]
    return [*results, *ablation_results()]


def first_phase_results():
    """Tables and figures of the sub-events, by configuration."""
    if not SETS:
        return []
    tables = [f"trackformers.{kind}" for kind in ("csv", "html", "md", "tex")]
    figures = [f"fit_accuracy_{name}" for name in SETS]
    figures += ["matrix"] if SUBEVENTS["matrix"] else []
    figures += [f"parameter_widths_{name}" for name in sets_with_predictions()]
    figures += [f"label_noise_{name}" for name in SETS[:1] if SUBEVENTS["label_noise"]]
    figures += ["track_latency"] if LATENCY["trackers"] else []
    figures += ["decomposition"] if DECOMPOSITION["tracker"] else []
    figures += MASK_FIGURES if SUBEVENTS["masks"]["set"] else []
    return [
        *(f"results/{RUN}/tables/{name}" for name in tables),
        *(
            f"results/{RUN}/figures/{name}.{kind}"
            for name in figures
            for kind in ("pdf", "png", "csv")
        ),
    ]
