# Helpers: the manifests of all results, by configuration.
from types import SimpleNamespace


def manifests():
    """JSON files that name threads and versions: of samples, simulated events, models, tuned settings and tracks."""
    return [
        *sample_manifests(),
        *(
            f"results/{RUN}/models/{model}/{name}-facts.json"
            for model, name in used_models()
        ),
        *(path for path in tuned_settings() if path),
        *run_files(),
    ]


def sample_manifests():
    """Manifests of all samples, and of the simulated events behind them."""
    samples = [*SAMPLES, *(["effects"] if EFFECTS else []), *COLLISION_SETS]
    samples += ["parents", *map(sample_of, SETS)] if SETS else []
    prepared = [f"results/{RUN}/prepared/{sample}/manifest.json" for sample in samples]
    raw = [
        raw_source(SimpleNamespace(sample=sample, shard=shard))
        for sample in samples
        if sample not in map(sample_of, SETS) and is_simulated(sample)
        for shard in shards(sample)
    ]
    return [*prepared, *dict.fromkeys(raw)]


def set_rows():
    """(set, row, Row) of every row that is run on sub-events or on a set of whole events."""
    return [
        (name, row, find_row(config, row, name))
        for name in [*SETS, *COLLISION_SETS]
        for row in rows_of_set(config, name)
    ]


def used_models():
    """(model, set) of the networks whose loss is shown or that a row uses."""
    used = [(row.model, row.trained_on) for _, _, row in set_rows() if row.model]
    return dict.fromkeys([*CURVES, *used])


def tuned_settings():
    """Files of tuned settings, [] where nothing is tuned."""
    rows = [tuned_file(name, row, set_name) for set_name, name, row in set_rows()]
    return dict.fromkeys(
        path for path in [*map(settings_file, TRACKERS), *rows] if path
    )


def run_files():
    """Run files of all tracks."""
    rows = [(sample, tracker) for sample in SAMPLES for tracker in TRACKERS]
    rows += [("effects", tracker) for tracker in EFFECT_TRACKERS if EFFECTS]
    rows += [(sample_of(name), row) for name, row, _ in set_rows()]
    rows += [
        (sample_of(name), row) for name in SETS for row in matrix_rows(config, name)
    ]
    rows = dict.fromkeys(rows)
    return [f"results/{RUN}/tracks/{sample}/{row}-run.json" for sample, row in rows]
