"""Tables as HTML pages."""

from trackbench.evaluation.page import markdown_page


def test_tables_are_set_and_html_in_them_is_harmless():
    page = markdown_page("A & B", "| x | y |\n|---|---:|\n| <script>alert(1)</script> | 2 |\n\nNote *this*.\n")
    assert "<h1>A &amp; B</h1>" in page
    assert page.count("<tr>") == 2
    assert '<td style="text-align:right">2</td>' in page
    assert "<em>this</em>" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_needs_nothing_from_outside():
    page = markdown_page("t", "text")
    assert "http" not in page
    assert "src=" not in page
