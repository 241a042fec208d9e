"""Captions of the report: each template rendered for several configurations, as Snakemake renders it."""

import re
from pathlib import Path
from types import SimpleNamespace

import docutils.core
import jinja2
import pytest

from trackbench.captions import about, about_set, reconstruction
from trackbench.config import read_schema, with_defaults

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "workflow/report"
SCHEMA = read_schema(ROOT / "workflow/schemas/config.schema.yaml")
RULES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
KINDS = {
    "attention": "surfaces",
    "differences": "comparison",
    "effects": "effects",
    "event_display": "event",
    "latency": "latency",
    "latency_stages": "stages",
    "latency_tiled": "tiled",
    "metrics": "comparison",
    "overview": "comparison",
    "projection": "event",
    "pull_profiles": "comparison",
    "pulls": "comparison",
    "rates": "comparison",
    "resolutions": "comparison",
    "simulation": "simulation",
    "summary": "comparison",
    "surfaces": "surfaces",
}
FEW_TRACKS = ("decomposition", "fit_accuracy", "label_noise", "masks", "matrix", "parameters", "track_latency")
FEW_TRACKS += ("trackformers", "training")
KINDS |= dict.fromkeys(FEW_TRACKS, "subevents")
KINDS |= {"training": "training", "summary_collisions": "collisions", "post_processing": "collisions"}
OF_COLLISIONS = {"summary_collisions", "post_processing", "metrics", "overview", "differences", "rates"}
OF_ALL = "provenance"  # of every result, so it names no events
SCALED = ("scaling", "dm_latency", "ablation")
KINDS |= dict.fromkeys(SCALED, "collisions")
OF_COLLISIONS |= set(SCALED)
SET = {"sets": {"pileup-2": {"events": {"train": 5, "val": 1, "test": 4}, "simulate": {"pileup": 2}}}}
WHOLE_KINDS = ("comparison", "surfaces", "event", "latency", "stages", "tiled")
WITH_INTERVAL = ("effects", "metrics", "overview", "rates", "summary", "summary_collisions", "surfaces", "dm_latency")
SIMULATED = "simulated, TrackML-like: 200 pile-up, ttbar, sigma_z = 5.5 mm, hit efficiency 0.98"
FILTERED = {"truth_filter": True, "hit_eta_max": 3, "detector": "full"}


def complete(data=None, **blocks):
    return with_defaults({"run": "test", "trackers": {"dbscan": {}}, "data": data or {}, **blocks}, SCHEMA)


def render(name, config, kind="efficiency", changes=None):
    """Caption ``name`` as text, the way Snakemake makes it: Jinja, then reStructuredText."""
    params = {"interval": config["evaluation"]["interval"], "reference": config["evaluation"]["reference"]}
    if KINDS.get(name) == "collisions":
        params |= {"about": about_set("pileup-2", config), "row": "heptv2 (demo)", "kmeans": 3}
        params |= {"tiling": "500, 2000", "pileups": "5, 20", "title": "Sectors", "quoted": True}
        params |= {"remarks": ["phi: one order"]}
        params |= changes or {}
    elif name in KINDS:
        params["about"] = about(KINDS[name], config)
    wildcards = SimpleNamespace(kind=kind, sample="pileup-2")
    fake = SimpleNamespace(params=SimpleNamespace(**params), config=config, wildcards=wildcards)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string((REPORT / f"{name}.rst").read_text(encoding="utf-8")).render(snakemake=fake)
    strict = {"report_level": 2, "halt_level": 2, "output_encoding": "unicode"}  # a warning is an error
    html = docutils.core.publish_parts(text, writer="html", settings_overrides=strict)["body"]
    for entity, character in (("&gt;", ">"), ("&lt;", "<"), ("&quot;", '"'), ("&amp;", "&")):
        html = html.replace(entity, character)
    return " ".join(re.sub(r"</?(?:p|div|strong|em|blockquote)\b[^>]*>", "", html).split())


def test_every_caption_and_every_rule_is_covered():
    assert {path.stem for path in REPORT.glob("*.rst")} == {*KINDS, "workflow", OF_ALL}
    for block in re.split(r"\n(?:use )?rule ", RULES)[1:]:
        captions = set(re.findall(r'caption="../report/(\w+)\.rst"', block))
        kinds = set(re.findall(r'about=about\("(\w+)", config\)', block))
        if "about=about_collisions" in block:
            assert not kinds and captions <= OF_COLLISIONS, block.splitlines()[0]
        else:
            assert kinds == {KINDS[name] for name in captions - {OF_ALL}}, block.splitlines()[0]
        uses_interval = any("params.interval" in (REPORT / f"{name}.rst").read_text() for name in captions)
        assert not uses_interval or 'interval=config["evaluation"]["interval"]' in block


@pytest.mark.parametrize("name", sorted(name for name, kind in KINDS.items() if kind in WHOLE_KINDS))
@pytest.mark.parametrize(
    ("data", "present", "absent"),
    [
        ({}, [SIMULATED, "noise kept"], ["REMOVED BY TRUTH", "local events", "sectors", "padded"]),
        ({"source": "local"}, ["local events", "noise kept"], ["simulated, TrackML-like", "5.5"]),
        ({"source": "kaggle"}, ["TrackML, train_sample.zip"], ["simulated, TrackML-like", "local events", "5.5"]),
        (FILTERED, ["hit |eta| <= 3", "REMOVED BY TRUTH (HEPTv2 mode)"], ["noise kept"]),
    ],
)
def test_captions_name_the_data_and_the_hits(name, data, present, absent):
    text = render(name, complete(data, scan={"tiling": [1000]}))
    for words in present:
        assert words in text
    for words in absent:
        assert words not in text


@pytest.mark.parametrize("name", sorted(KINDS))
def test_captions_never_name_another_interval(name):
    text = render(name, complete(evaluation={"interval": "wilson"}, collisions=SET))
    assert "Clopper" not in text
    assert ("68.27 % Wilson" in text) == (name in WITH_INTERVAL)
    text = render(name, complete(collisions=SET))
    assert ("68.27 % Clopper-Pearson" in text) == (name in WITH_INTERVAL)


def test_comparison_states_events_selection_and_sectors():
    data = {"sectors": {"count": 4, "overlap": 0.1}, "pad_to": 150000, "events": {"test": 1}}
    text = render("overview", complete(data, selection={"pt_min": 0.5}))
    assert f"1 test event ({SIMULATED}). Hits used: pixel hits, noise kept." in text
    assert "Reconstructed in 4 phi sectors, overlap 0.1, events padded to 150000 hits." in text
    assert "Particles selected: pT >= 0.5 GeV, |eta| < 4, >= 3 layers; no hit is removed by this selection." in text


@pytest.mark.parametrize("name", ["surfaces", "attention"])
def test_surfaces_state_their_own_selection(name):
    text = render(name, complete({"detector": "full"}, selection={"pt_min": 0.5, "eta_max": 2.5}))
    assert "Scored: tracks with pT > 0.9 GeV and >= 3 hits in the region, no eta cut" in text
    assert "Hits clustered: pixel hits, noise kept." in text and "4 test events" in text
    assert "0.5 GeV" not in text and "2.5" not in text.replace("2.25", "")


@pytest.mark.parametrize("name", ["projection", "event_display"])
def test_drawings_show_one_event(name):
    text = render(name, complete({"events": {"test": 7}}))
    assert f"One test event ({SIMULATED})." in text
    assert "7" not in text and "layers" not in text


def test_latency_states_samples_and_protocol():
    text = render("latency", complete(scan={"pileup": [5, 20], "events": 3}))
    assert "Main sample: 4 test events (" in text
    assert "scan: 3 simulated events at each pile-up of 5, 20." in text
    for words in (
        "Wall clock",
        "one thread",
        "first call",
        "no other job of the workflow",
        "another profile",
        "--cores 1",
    ):
        assert words in text
    assert "scan" not in render("latency", complete())


def test_stages_state_the_main_sample_only():
    text = render("latency_stages", complete({"pad_to": 9}, scan={"pileup": [5, 20], "events": 3}))
    assert "4 test events (" in text and "padded to 9 hits" in text and "Wall clock" in text
    assert "scan" not in text and "at each pile-up" not in text


def test_tiled_latency_states_sizes_and_calls():
    data = {"pad_to": 9, "sectors": {"count": 2}}
    text = render("latency_tiled", complete(data, scan={"tiling": [1000, 2000], "calls": 1}))
    assert "tiled or thinned to 1000, 2000 hits, 1 call per size." in text
    assert "Reconstructed in 2 phi sectors, overlap 0." in text and "padded" not in text


def test_simulation_is_validated_on_all_events_and_hits():
    text = render("simulation", complete({"events": {"train": 2, "val": 1, "test": 4}, **FILTERED}))
    assert f"All 7 events of the main sample, whatever their split ({SIMULATED})." in text
    assert "Hits of all volumes, noise kept, no selection of hits or particles." in text
    assert "REMOVED" not in text and "test events" not in text


def test_effects_are_simulated_whatever_the_main_sample_is():
    effects = {"events": 2, "variations": {"nominal": {}, "low field": {"field": 1.98}}}
    for source in ("simulate", "kaggle"):
        text = render("effects", complete({"source": source}, effects=effects, selection={"pt_min": 0.5}))
        assert "2 simulated events per row, the same collisions in all of them" in text
        assert f"where a row says nothing else: {SIMULATED}." in text
        assert "Hits used: pixel hits, noise kept." in text
        assert "Particles selected: pT >= 0.5 GeV, |eta| < 4" in text
        assert "train_sample" not in text
    assert "REMOVED BY TRUTH (HEPTv2 mode)" in render("effects", complete(FILTERED, effects=effects))


def test_steps_after_the_network_name_row_events_selection_and_cpu():
    text = render("post_processing", complete(collisions=SET, selection={"pt_min": 0.5}))
    for words in (
        "Tracker: heptv2 (demo);",
        "3 turns of k-means",
        "4 test events of the sample pileup-2 (simulated",
        "pT >= 0.5 GeV",
        "CPU seconds are of the step alone",
        "on the CPU that the table names",
    ):
        assert words in text


def test_another_detector_is_named():
    assert "field" not in render("overview", complete())
    text = render("overview", complete({"simulate": {"field": 1.9, "misalignment": 0.05}}))
    assert "hit efficiency 0.98, field 1.9 T, modules misaligned by 0.05 mm)" in text


def test_first_page_of_the_report():
    assert "4 test events: simulated, TrackML-like." in render("workflow", complete())
    text = render("workflow", complete({"source": "local", "truth_filter": True, "events": {"test": 1}}))
    assert "1 test event: local." in text and "removed by truth (truth_filter)" in text


def test_reconstruction_of_whole_events_needs_no_words():
    assert reconstruction(complete()["data"]) == ""
    assert reconstruction(complete({"pad_to": 10})["data"]) == "events padded to 10 hits"


def test_unknown_kind():
    with pytest.raises(KeyError, match="tables"):
        about("tables", complete())


@pytest.mark.parametrize("name", FEW_TRACKS)
def test_captions_of_few_tracks_name_sets_parents_and_labels(name):
    parents = {"events": {"train": 7, "val": 2, "test": 3}, "simulate": {"pileup": 60, "hard_process": "none"}}
    subevents = {"parents": parents, "sets": {"10-50": {"length": 700}, "50-100": {"length": 1200}}}
    models = {"one": {"task": "encreg", "sets": ["10-50"], "training": {"label": "demo"}}}
    text = render(name, complete(subevents=subevents, models=models))
    assert "Sub-events of 10-50, 50-100 tracks cut from 7 training, 2 validation and 3 test parents" in text
    assert "60 pile-up, no hard process" in text and "noise removed by truth" in text
    assert "networks labelled demo are not trained to the end" in text.replace("Networks", "networks")
    kaggle = render(name, complete({"source": "kaggle"}, subevents=subevents))
    assert "simulated, TrackML-like" not in kaggle and "labelled" not in kaggle


def test_tables_of_low_pile_up_say_what_ran_beside_them():
    text = render("summary_collisions", complete(collisions=SET))
    assert "4 test events of the sample pileup-2 (" + SIMULATED.replace("200 pile-up", "2 pile-up") in text
    assert "side by side" in text and "no other job" not in text


def test_ablation_caption_quotes_only_where_something_is_quoted():
    config = complete(collisions=SET)
    texts = {quoted: render("ablation", config, changes={"quoted": quoted}) for quoted in (True, False)}
    for text in texts.values():
        assert text.startswith("Sectors: rows") and "4 test events of the sample pileup-2" in text
    assert "quoted from the study of blocks" in texts[True] and "quoted" not in texts[False]
    assert "Settings: phi: one order." in texts[True]
    assert "Settings:" not in render("ablation", config, changes={"remarks": []})


def test_scaling_caption_names_what_was_run():
    config = complete(collisions=SET)
    both = render("scaling", config)
    for words in ("tiled or thinned to 500, 2000 hits", "; and simulated events of 5, 20 pile-up", "no physics"):
        assert words in both
    assert "not trained at" in both and "Grey: quoted" in both and "4 test events of the sample pileup-2" in both
    tiled, scan = (render("scaling", config, changes={name: ""}) for name in ("pileups", "tiling"))
    assert "pile-up they" not in tiled and "not trained at" not in tiled and "hits, copies rotated" in tiled
    assert "number of hits: simulated events of 5, 20 pile-up" in scan and "tiled or thinned" not in scan
