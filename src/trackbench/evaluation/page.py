"""Markdown tables as a page of their own, so that the report shows them set instead of offering a download."""

import html

_STYLE = """
body { font: 13px/1.45 system-ui, sans-serif; color: #222; margin: 1.5em; max-width: 110em; }
h1 { font-size: 1.25em; margin: 0 0 0.8em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0 0 1.2em; }
th { border-bottom: 2px solid #444; vertical-align: bottom; }
th, td { padding: 0.28em 0.6em; text-align: left; }
td { white-space: nowrap; }
td:last-child { white-space: normal; min-width: 12em; }
td { border-bottom: 1px solid #ddd; }
tr:hover td { background: #f3f6fa; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
p, li { max-width: 75em; }
"""


def markdown_page(title: str, markdown: str) -> str:
    """Render Markdown as a self-contained HTML page without scripts.

    title: heading of the page; markdown: CommonMark with tables, raw HTML in it is shown as text
    Returns the HTML. Rendered by markdown-it-py.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    title = html.escape(title)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><h1>{title}</h1>\n{body}</body></html>\n'
