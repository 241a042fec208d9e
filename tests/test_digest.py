"""The code digest follows imports exactly."""

import textwrap

import pytest

from trackbench.digest import code_digest, reached_files


@pytest.fixture
def package(tmp_path):
    """A small package ``trackbench`` and a script that uses part of it."""
    files = {
        "src/trackbench/__init__.py": "",
        "src/trackbench/a.py": "from trackbench.sub import deep\n",
        "src/trackbench/b.py": "x = 1\n",
        "src/trackbench/unused.py": "x = 1\n",
        "src/trackbench/sub/__init__.py": "",
        "src/trackbench/sub/deep.py": "def f():\n    import trackbench.b\n",
        "src/trackbench/sub/style.mplstyle": "lines.linewidth: 1\n",
        "src/trackbench/by_name.py": "x = 1\n",
        "script.py": "import numpy\nfrom trackbench import a\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def digest(package, *modules):
    return code_digest(package / "script.py", modules, package / "src")


def test_reached_files_are_the_transitive_imports(package):
    reached = reached_files(package / "script.py", (), package / "src")
    names = {path.relative_to(package / "src/trackbench").as_posix() for path in reached}
    assert names == {"__init__.py", "a.py", "b.py", "sub/__init__.py", "sub/deep.py", "sub/style.mplstyle"}


@pytest.mark.parametrize("name", ["a.py", "b.py", "sub/deep.py", "sub/style.mplstyle", "__init__.py"])
def test_editing_a_reached_file_changes_the_digest(package, name):
    before = digest(package)
    path = package / "src/trackbench" / name
    path.write_text(path.read_text() + "\n# edited\n")
    assert digest(package) != before


def test_editing_other_files_changes_nothing(package):
    before = digest(package)
    (package / "src/trackbench/unused.py").write_text("x = 2\n")
    (package / "script.py").write_text("from trackbench import a\n# edited\n")  # Snakemake sees scripts itself
    assert digest(package) == before


def test_imports_for_type_checkers_do_not_count(package):
    lines = ["if TYPE_CHECKING:", "    from trackbench import unused", "else:", "    import trackbench.b"]
    (package / "script.py").write_text("\n".join(lines))
    names = {path.name for path in reached_files(package / "script.py", (), package / "src")}
    assert names == {"__init__.py", "b.py"}


def test_modules_loaded_by_name_are_added(package):
    before = digest(package)
    named = digest(package, "trackbench.by_name")
    assert named != before
    (package / "src/trackbench/by_name.py").write_text("x = 2\n")
    assert digest(package, "trackbench.by_name") != named


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    pass\nexcept ValueError:\n    import trackbench.b",
        "try:\n    pass\nfinally:\n    import trackbench.b",
        "match 1:\n    case 1:\n        import trackbench.b",
        "class A:\n    def f(self):\n        with open('x'):\n            import trackbench.b",
        "for x in []:\n    pass\nelse:\n    import trackbench.b",
    ],
)
def test_imports_count_wherever_a_statement_may_be(package, text):
    (package / "script.py").write_text(text)
    names = {path.name for path in reached_files(package / "script.py", (), package / "src")}
    assert names == {"__init__.py", "b.py"}
