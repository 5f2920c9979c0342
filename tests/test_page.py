"""Pages that need neither a server nor a network."""

import re

import nbformat
import pytest
from nbformat import v4

from nonequilibrium.files import ROOT
from nonequilibrium.report import page

CELLS = [
    v4.new_markdown_cell("# A page\n\nIn text $q(x^t|x^{t-1})$, and `$HOME` costs $5."),
    v4.new_code_cell("import os\nprint(os.sep)"),
    v4.new_markdown_cell("## The bound\n\n$$K = \\mathbb{E}_q\\, \\mathrm{KL}$$\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
    v4.new_code_cell("1 + 1", outputs=[v4.new_output("execute_result", {"text/html": "<p>where $T = 40$</p>"})]),
]


def made(**options):
    return page.render(v4.new_notebook(cells=CELLS), "x", ROOT / "reports", **options)


def test_nothing_is_loaded_from_elsewhere():
    html = made()
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?!data:)", html)
    assert "@import" not in html and "MathJax" not in html and "require.js" not in html


def test_equations_are_mathml_and_dollars_in_code_and_prices_stay():
    html = made()
    assert (
        html.count("<math") == 3
        and "$$" not in html
        and r"\mathbb" not in re.sub(r"<annotation.*?</annotation>", "", html)
    )
    assert "$HOME" in html and "$5" in html


def test_the_report_has_contents_and_no_code_and_a_notebook_the_way_back():
    report, notebook = made(is_report=True), made()
    assert 'href="#the-bound"' in report and 'id="the-bound"' in report and "import os" not in report
    assert "../index.html" in notebook and "<details" in notebook, "plumbing is folded"


def test_an_equation_that_cannot_be_read_stays_as_code():
    with pytest.warns(UserWarning, match="stays TeX"):
        assert page.mathml(r"\undefinedmacro{x}", False).startswith("<code>")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_equation_of_the_notebooks_can_be_read(path, recwarn):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            page.markdown(cell.source)
    assert not [str(w.message) for w in recwarn if "stays TeX" in str(w.message)]
