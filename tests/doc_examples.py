"""Examples in the documents, so that tests can run exactly what a reader copies."""

import re
from pathlib import Path


def example_block(path: Path, name: str) -> str:
    """Return the Python block that follows the line ``<!-- example: NAME -->`` of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(rf"<!-- example: {re.escape(name)} -->\n+```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{path.name}: {len(found)} blocks marked 'example: {name}'"
    return found[0]
