# Helpers of the rules on sets of whole events: rows, files and texts of the wildcards, ablations.


def collision_rows(wildcards):
    """Rows of a set of whole events, the wildcard sample."""
    return rows_of_set(config, wildcards.sample)


def shown_names(wildcards):
    """The same rows as tables and figures name them."""
    return list(row_names(config, wildcards.sample).values())


def collision_files(folder, ending):
    """Function of the wildcards: one file per row of a set of whole events."""
    return lambda wildcards: [
        f"results/{wildcards.run}/{folder}/{wildcards.sample}/{row}-{ending}"
        for row in collision_rows(wildcards)
    ]


def metrics_of_origin(wildcards):
    """Long table of the sample whose events these are with noise removed by truth; nothing if there is no other."""
    origin = origin_of(config, wildcards.sample)
    if truth_filter_of(config, origin) or not truth_filter_of(config, wildcards.sample):
        return []
    return f"results/{RUN}/tables/metrics_{origin}.csv"


def collision_evaluation(wildcards):
    """Block ``evaluation`` with a reference among the rows of a set of whole events."""
    reference = reference_of(config, wildcards.sample)
    return {**config["evaluation"], "reference": reference}


def rate_reference(wildcards):
    """Reference of the ratio panel; none for fake rates, which are zero in many bins of low pile-up."""
    if wildcards.kind == "fake_rate":
        return None
    return reference_of(config, wildcards.sample)


def about_collisions(wildcards):
    """What a result of a set of whole events was made from."""
    return about_set(wildcards.sample, config)


def post_processing_row(wildcards):
    """Row whose steps after the network are studied, with the weights of the sample."""
    return find_row(config, COLLISIONS["post_processing"], wildcards.sample)


def post_processing_inputs(wildcards):
    """Its weights and tuned settings."""
    row = post_processing_row(wildcards)
    return row_inputs(COLLISIONS["post_processing"], row, wildcards.sample)


def post_processing_name(wildcards):
    """The same row as tables name it."""
    return row_names(config, wildcards.sample)[COLLISIONS["post_processing"]]


def ablation_block(wildcards):
    """Block of the configuration of an ablation."""
    return COLLISIONS["ablations"][wildcards.ablation]


def ablation_files(folder, ending):
    """Function of the wildcards: one file per row of an ablation."""
    return lambda wildcards: [
        f"results/{wildcards.run}/{folder}/{wildcards.sample}/{row}-{ending}"
        for row in ablation_block(wildcards)["rows"]
    ]


def ablation_facts(wildcards):
    """What is known about the trainings behind the rows, a file per network."""
    entries = [COLLISIONS["trackers"][row] for row in ablation_block(wildcards)["rows"]]
    models = dict.fromkeys(entry["model"] for entry in entries if entry["model"])
    return [
        f"results/{wildcards.run}/models/{model}/{wildcards.sample}-facts.json"
        for model in models
    ]


def ablation_described(wildcards):
    """The rows with what sets them apart."""
    return [
        asdict(row)
        for row in ablation_rows(config, wildcards.ablation, wildcards.sample)
    ]


def ablation_notes(wildcards):
    """What the figure has to say about its settings."""
    return ablation_remarks(config, wildcards.ablation, wildcards.sample)


def ablation_axis(wildcards):
    """Setting on the x axis in words, if any."""
    return (ablation_block(wildcards)["x"] or "").rpartition(".")[2].replace("_", " ")


def quotes_blocks(wildcards):
    """Whether the published study of blocks belongs beside an ablation."""
    block = ablation_block(wildcards)
    return (block["x"], block["lines"]) == BLOCK_STUDY
