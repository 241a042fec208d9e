"""Two folders of results compared: one changed number is found, times and memory are not asked for."""

import json
import os
import shutil

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from toy_tasks import write_toy_sample

from trackbench.cli import main as entry
from trackbench.errors import InputError
from trackbench.evaluation.markup import latex_row, markdown_table
from trackbench.evaluation.page import markdown_page
from trackbench.files import write_json, write_text
from trackbench.reproduce import compare_results, is_measured, report

HEAD = ["Tracker", "DM eff. [%]", "Latency [ms]", "Weights"]
NAMES = ("tables/metrics.csv", "tables/summary.md", "tables/summary.html", "tables/summary.tex")


def write_results(folder, dm=0.5, ms=1.5):
    """Results of every kind, in which only these two numbers may differ."""
    rows = [["dbscan", f"{100 * dm:.1f}", f"{ms:.3g}", "12"], ["finder", "71.2", f"{2 * ms:.3g}", "7"]]
    markdown = f"Times: wall clock.\n\n{markdown_table(HEAD, rows)}\n\nNotes.\n\n{markdown_table(HEAD[:2], [])}\n"
    write_text(folder / "tables/summary.md", markdown)
    write_text(folder / "tables/summary.html", markdown_page("Summary", markdown))
    table = "\n".join([latex_row(HEAD), r"\midrule", r"\multicolumn{4}{l}{main}\\", *map(latex_row, rows)])
    table += "\n\\end{tabular}\n" + latex_row(["a", "b", "c", f"{dm}"])
    write_text(folder / "tables/summary.tex", table)
    metrics = pd.DataFrame(
        {"metric": ["dm", "latency_ms/p95"], "value": [dm, ms], "n_events": [4, 4], "source": "measured, 3 runs"}
    )
    write_text(folder / "tables/metrics.csv", metrics.to_csv(index=False))
    write_text(folder / "tracks/timing.csv", pd.DataFrame({"n_hits": [9], "wall_s": [ms], "cpu_s/fit": [ms]}).to_csv())
    shares = pd.DataFrame({"n": [9], "share": [dm], "seconds": [ms], "lo": [ms], "hi": [ms]})
    write_text(folder / "figures/latency.csv", shares.to_csv(index=False))
    (folder / "metrics").mkdir(exist_ok=True)
    pd.DataFrame({"dm": [True, dm > 0.4], "seconds": [ms, ms]}).to_parquet(folder / "metrics/particles.parquet")
    write_json(folder / "models/facts.json", {"loss": 2 * dm, "seconds": ms, "versions": {"torch": "2"}, "seeds": [1]})
    write_text(folder / "models/weights.pt", f"weights {dm}")
    write_text(folder / "benchmarks/train/a.tsv", f"{ms}")
    write_text(folder / "figures/latency.png", f"{ms}")
    write_text(folder / "models/a.training/lock", f"{ms}")
    return folder


@pytest.fixture
def pair(tmp_path):
    """Two folders in which times differ, and nothing else."""
    return write_results(tmp_path / "a"), write_results(tmp_path / "b", ms=47.25)


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_times_and_memory_may_differ(pair):
    found = compare_results(*pair)
    assert found.is_equal, found.different
    assert len(found.equal) == 9
    assert sorted(found.left_out) == ["benchmarks/train/a.tsv", "figures/latency.png", "models/a.training/lock"]
    assert "No difference." in report(found, *pair)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("tables/metrics.csv", "0.5,", "0.50000001,", "row 1, column value: 0.5 and 0.50000001"),
        ("tables/metrics.csv", 'p95,47.25,4,"', 'p95,47.25,4,"not ', "row 2, column source"),
        ("tables/metrics.csv", "measured", "quoted", "row 1, column source: measured, 3 runs and quoted, 3 runs"),
        ("tables/metrics.csv", "metric,", "metrik,", "columns metric, value"),
        ("tables/summary.md", "71.2", "71.3", "line 6: ' 71.2 ' and ' 71.3 '"),
        ("tables/summary.md", "Notes.", "Note.", "line 8: 'Notes.' and 'Note.'"),
        ("tables/summary.md", "| 7 |", "| 8 |", "line 6"),
        ("tables/summary.html", "71.2", "71.3", "'71.2' and '71.3'"),
        ("tables/summary.tex", "71.2", "71.3", "' 71.2 ' and ' 71.3 '"),
        ("tables/summary.tex", "0.5", "0.6", "' 0.5"),
        ("tables/summary.tex", "{main}", "{scan}", "line 3"),
        ("figures/latency.csv", "0.5,", "0.6,", "column share"),
        ("models/facts.json", "1.0", "1.1", "loss: 1.0 and 1.1"),
        ("models/weights.pt", "0.5", "0.4", "byte 10"),
    ],
)
def test_one_changed_number_is_found(pair, name, old, new, words):
    change(pair[1] / name, old, new)
    found = compare_results(*pair)
    assert list(found.different) == [name] and not found.missing
    assert words in found.different[name]
    assert f"- {name}: " in report(found, *pair)


def test_what_results_were_made_with_is_told_apart(pair):
    """Another machine with other versions and the same numbers: equal, and the difference is said."""
    words = {name: "dbscan" for name in NAMES} | {"tables/metrics.csv": "3 runs"}
    for folder, cpu in zip(pair, ("Chip A", "Chip A2 (R) @ 3 GHz"), strict=True):
        content = json.loads((folder / "models/facts.json").read_text())
        content |= {"machine": {"cpu": cpu}, "threads": 1, "versions": {"torch": f"of {cpu}"}}
        content |= {"sittings": [{"first_step": 1, "last_step": len(cpu), "threads": 1}]}
        write_json(folder / "models/facts.json", content)
        for name, word in words.items():
            change(folder / name, word, f"timed on {cpu}, {word}")
        write_text(folder / "tables/provenance.csv", cpu)
    found = compare_results(*pair)
    assert found.is_equal, found.different
    said = "machine.cpu: 'Chip A' and 'Chip A2 (R) @ 3 GHz'"
    assert found.made_with == {"models/facts.json": said}
    assert f"1 of the files were made with something else:\n\n- models/facts.json: {said}" in report(found, *pair)
    change(pair[1] / "tables/summary.md", "71.2", "71.3")
    assert list(compare_results(*pair).different) == ["tables/summary.md"]


def test_parquet_is_compared_number_by_number(pair):
    path = pair[1] / "metrics/particles.parquet"
    frame = pd.read_parquet(path)
    frame.loc[1, "dm"] = False
    frame.to_parquet(path)
    assert compare_results(*pair).different == {"metrics/particles.parquet": "row 2, column dm: True and False"}
    frame.iloc[:1].to_parquet(path)
    assert "2 and 1 rows" in compare_results(*pair).different["metrics/particles.parquet"]


def test_shards_of_other_bytes_are_compared_number_by_number(tmp_path):
    """Their checksums are not those of other files; another version of Parquet may compress otherwise."""
    for name in ("a", "b"):
        write_toy_sample(tmp_path / name, shards=(2,), n_val=0)
    path = tmp_path / "b/shard-0-hits.parquet"
    table = parquet.ParquetFile(path).read()
    parquet.write_table(table, path, compression="gzip", row_group_size=7)
    assert compare_results(tmp_path / "a", tmp_path / "b").is_equal
    x = table["x"].to_numpy().copy()
    x[3] += 1e-9
    parquet.write_table(table.set_column(table.column_names.index("x"), "x", pa.array(x)), path)
    assert list(compare_results(tmp_path / "a", tmp_path / "b").different) == ["shard-0-hits.parquet"]


def test_a_file_too_many_and_a_file_too_few(pair):
    (pair[0] / NAMES[0]).unlink()
    (pair[1] / NAMES[1]).unlink()
    found = compare_results(*pair)
    assert found.missing == {NAMES[0]: f"only in {pair[1]}", NAMES[1]: f"only in {pair[0]}"}
    assert not found.is_equal


def test_the_sequence_of_writing_is_told(pair):
    for folder in pair:
        for k, name in enumerate(NAMES):
            os.utime(folder / name, (k, k))
    before = compare_results(*pair).order
    os.utime(pair[1] / NAMES[0], (2.5, 2.5))  # now third
    assert compare_results(*pair).order == before + 3


@pytest.mark.parametrize(
    "name", ["wall_s", "cpu_s/features", "latency_ms/p95", "peak_mb", "memory_mb", "wall_lo", "events_per_s", "seconds"]
)
def test_measured(name):
    assert is_measured(name)


@pytest.mark.parametrize("name", ["n_hits", "dm/num", "sin_phi", "timed_hits", "settings", "steps", "lo", "clusters"])
def test_not_measured(name):
    assert not is_measured(name)


def test_what_cannot_be_compared(tmp_path, pair):
    with pytest.raises(InputError, match=r"nowhere: no such folder, expected results of the workflow"):
        compare_results(pair[0], tmp_path / "nowhere")
    for name in ("c", "d"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="no files to compare"):
        compare_results(tmp_path / "c", tmp_path / "d")
    (pair[1] / "metrics/particles.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"particles\.parquet: one of these cannot be read"):
        compare_results(*pair)


def test_command(pair, tmp_path, capsys):
    out = tmp_path / "report.md"
    assert entry.main(["compare", *map(str, pair), "--out", str(out)]) == 0
    assert out.read_text().strip() == capsys.readouterr().out.strip()
    change(pair[1] / "tables/summary.md", "71.2", "71.3")
    assert entry.main(["compare", *map(str, pair)]) == 1
    assert "| tables | 4 | 3 | 1 | 0 |" in capsys.readouterr().out
    assert entry.main(["compare", str(pair[0]), "nowhere"]) == 2


def test_a_difference_in_nested_values(pair):
    for folder, seeds in zip(pair, ([1, 2], [1, 3]), strict=True):
        (folder / "models/facts.json").write_text(json.dumps({"seeds": seeds, "threads": 1}))
    assert compare_results(*pair).different == {"models/facts.json": "seeds[1]: 2 and 3"}


def test_a_copy_is_equal(pair, tmp_path):
    shutil.copytree(pair[0], tmp_path / "copy")
    found = compare_results(pair[0], tmp_path / "copy")
    assert found.is_equal and found.order == 0
