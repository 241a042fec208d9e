"""docs/faults.md quotes messages as the code says them, and its table is that of the record of ``make faults``."""

import ast
import errno
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from snakemake.exceptions import LockException

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
HOLE = "\0"  # what is filled in when a message is made
# What Snakemake says, and Python of a process that was killed.
OTHERS = [str(LockException()), str(subprocess.CalledProcessError(-signal.SIGKILL, "x")).partition("' ")[2]]
SYSTEM = {os.strerror(number) for number in errno.errorcode}
SEPARATORS = ("", ": ", ", expected ", "; ")  # of the parts of ``describe``


def quotes(page):
    """Messages in the second column of the table of faults."""
    rows = [line.split(" | ") for line in page.partition("|---|")[2].partition("\n\n")[0].splitlines()[1:]]
    return [text for row in rows for text in re.findall(r"`(?!snakemake )([^`]+)`", row[1]) if " " in text]


class Texts(ast.NodeVisitor):
    """Every text of a file that could be a message or part of one, with holes, in ``found``."""

    def __init__(self, tree, constants):
        self.names, self.found = {name: list(texts) for name, texts in constants.items()}, set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.names.setdefault(node.targets[0].id, []).extend(self.of(node.value))
        self.visit(tree)

    def generic_visit(self, node):
        if isinstance(node, ast.Call | ast.JoinedStr | ast.BinOp | ast.Constant):
            self.found.update(self.of(node))
        super().generic_visit(node)

    def of(self, node):
        """What an expression may say."""
        match node:
            case ast.Constant(value=str(value)):
                return [re.sub(r"%[sd]", HOLE, value)]
            case ast.JoinedStr(values=parts):
                return joined(self.of(part) for part in parts)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return joined([self.of(left), self.of(right)])
            case ast.IfExp(body=one, orelse=other):
                return [*self.of(one), *self.of(other)]
            case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name):
                return [HOLE, *self.names.get(name, [])][:16]
            case ast.Call(func=ast.Name(id="describe"), args=args):
                parts = zip(SEPARATORS, map(self.of, args), strict=False)
                return joined([before + text if text else "" for text in texts] for before, texts in parts)
        return [HOLE]


def joined(parts):
    return ["".join(texts) for texts in product(*parts)][:1000]


@cache
def texts():
    """All texts of the library and of the scripts of the workflow that have words."""
    paths = [*(ROOT / "src/trackbench").rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    constants = {}
    for tree in trees.values():
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))) if name.isupper():
                    constants.setdefault(name, []).append(value)
    found = {text for tree in trees.values() for text in Texts(tree, constants).found}
    return sorted(text for text in found if len(re.sub(r"\W", "", text)) > 6)


def is_said(quote, depth=2):
    """Whether a message, or one of its parts between "...", is one that is printed; without a full stop at its end."""
    quote = quote.strip(" .;")
    if any(quote in text for text in OTHERS):
        return True
    for text in texts():
        parts = text.strip(" .").split(HOLE)
        if all(part in quote for part in parts):
            found = re.fullmatch("(.+?)".join(map(re.escape, parts)), quote)
            if found and all(is_value(value, depth) for value in found.groups()):
                return True
    return False


def is_value(value, depth):
    """Whether a hole may be filled so: one word, an error of the system, or a message again."""
    return " " not in value or value in SYSTEM or (depth > 0 and is_said(value, depth - 1))


@pytest.mark.parametrize("quote", quotes(PAGE))
def test_each_message_is_one_that_is_printed(quote):
    assert is_said(quote), quote


def test_a_message_that_has_changed_is_found():
    quote = next(quote for quote in quotes(PAGE) if "make room" in quote)
    assert is_said(quote)
    for other in ("make rooms", "No space anywhere"):
        assert not is_said(quote.replace("make room", other) if "rooms" in other else quote.replace("No space", other))
    assert not is_said("a message of nobody") and len(quotes(PAGE)) >= 15


def script():
    """benchmarks/record_faults.py"""
    spec = importlib.util.spec_from_file_location("record_faults", ROOT / "benchmarks/record_faults.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN = """
import pytest

def test_survived(injected, measured):
    measured("seconds", 1.234)
    with injected("a kill"):
        pass

def test_nobody_notices(injected):
    try:
        with injected("a full disk"):
            assert {survives}
    except AssertionError:
        pass
"""


@pytest.mark.parametrize("survives", [True, False])
def test_record_of_a_run(tmp_path, survives):
    """A fault that was not survived fails the run, though its test passed, is in the record, and that is not kept."""
    (tmp_path / "test_run.py").write_text(RUN.format(survives=survives))
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    command = [sys.executable, "-m", "pytest", "-p", "faults.conftest", "-c", os.devnull, "--rootdir", str(tmp_path)]
    command += ["--all-faults", "--faults-record", str(tmp_path / "record.json"), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if survives else 1), done.stdout
    assert ("NOT SURVIVED" in done.stdout) == (not survives)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["passed"] == survives and record["whole"] and record["tests"]["passed"] == 2
    kinds = [{"fault": "a kill", "injected": 1, "survived": 1}]
    assert record["faults"] == [*kinds, {"fault": "a full disk", "injected": 1, "survived": int(survives)}]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n")
    command = [sys.executable, str(ROOT / "benchmarks/record_faults.py"), str(tmp_path / "record.json")]
    command += ["--out", str(tmp_path / "kept.json"), "--page", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (tmp_path / "kept.json").exists() == survives
    assert ("| **all** | 2 | 2 |" in page.read_text()) == ("old" not in page.read_text()) == survives
    assert survives or "not survived: a full disk; the record and the page stay as they are" in done.stderr


def test_what_is_no_whole_run_is_not_kept():
    record = {"passed": True, "whole": True, "faults": [{"fault": "a kill", "injected": 1, "survived": 1}]}
    objection = script().objection
    assert objection(record) == ""
    assert objection({**record, "passed": False}) == "the run did not pass"
    assert objection({**record, "whole": False}) == "not the whole run: make faults"
    assert objection({**record, "faults": []}) == "no fault was injected"


def test_the_table_is_that_of_the_record():
    record = json.loads((ROOT / "benchmarks/results/faults.json").read_text(encoding="utf-8"))
    assert script().objection(record) == ""
    assert script().filled(PAGE, record) == PAGE
