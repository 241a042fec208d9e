"""README shows numbers of committed records and no placeholder."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_placeholder_is_left():
    assert not re.findall(r"BENCH_?|DEMO_TABLE|TODO|XXX", README)


def test_the_benchmark_table_is_that_of_the_records():
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks/table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown = README.partition("<!-- benchmarks -->\n")[2].partition("\n<!-- /benchmarks -->")[0]
    assert shown == module.table()


def test_the_two_commands_come_first():
    commands = re.findall(r"^(make \w+)", README, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in set(re.findall(r"`make (\w+)`", README)):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
