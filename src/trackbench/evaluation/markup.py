"""Rows and tables in Markdown and LaTeX, and the mark of quoted numbers."""

import re

DAGGER = "\N{DAGGER}"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Set a table in Markdown: first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def latex_row(cells: list[str]) -> str:
    """Join the cells of one row of a LaTeX table."""
    return " & ".join(cells) + r" \\"


_TEX = {
    "pT": r"$p_\mathrm{T}$",
    "|eta|": r"$|\eta|$",
    "sigma_z": r"$\sigma_z$",
    ">=": r"$\geq$",
    "<=": r"$\leq$",
    ">": "$>$",
    "<": "$<$",
    "|": r"\textbar{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "%&#_${}"},
}
_TEX_PATTERN = re.compile("|".join(re.escape(key) for key in sorted(_TEX, key=len, reverse=True)))


def latex_text(text: str) -> str:
    """Escape plain text for LaTeX and set the usual symbols."""
    return _TEX_PATTERN.sub(lambda match: _TEX[match.group()], text)
