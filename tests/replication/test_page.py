"""The pages: what is maths and what is not; and, in a headless Chromium, that they need neither a
server nor a network.
"""

import base64
import io
import json
import os
import re
import shutil
import warnings

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from replication.files import ROOT
from replication.pages import page

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def png(size=(1880, 900), dpi=200):
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "PNG", dpi=(dpi, dpi))
    return file.getvalue()


def small_notebook():
    """A notebook with one of each: equations, code with dollars, a wide table, a dense picture,
    plumbing.
    """
    wide = (
        "<table><tr>" + "".join(f"<th>a long heading {n}</th>" for n in range(20)) + "</tr></table>"
    )
    optimum = "<table><tr><td>optimum $K^*$, exact, for $5</td></tr></table>"
    markdown = r"""# 1. The bound of $K$

Inline $q(x^t|x^{t-1}) = \mathcal N(0, I)$, and `echo $HOME $$` for $5 or $6.

$$K = -\sum_{t=2}^T \mathbb E_q\, \mathrm{KL}\left(q(x^{t-1}|x^t,x^0)\,\|\,p(x^{t-1}|x^t)\right)
 + H_q(X^T|X^0) - H_q(X^1|X^0) + \mathbb E_q\left[\log\pi(x^T) + \log\pi(x^0) - \log\pi(x^1)\right]$$
"""
    picture = base64.encodebytes(png()).decode()
    return new_notebook(
        cells=[
            new_markdown_cell(markdown, id="cell-0"),
            new_code_cell("seed = 7", metadata={"tags": ["parameters"]}, id="cell-1"),
            new_code_cell("import torch", id="cell-2"),
            new_markdown_cell("## A part\n\n## A part\n\n### Its $K^*$", id="cell-3"),
            new_code_cell(
                "answer = 'a line of code that is much longer than any telephone is wide' + 'x' * 42",
                outputs=[
                    new_output("execute_result", {"text/html": wide}, execution_count=1),
                    new_output("display_data", {"text/html": optimum}),
                    new_output("display_data", {"image/png": picture, "text/plain": "<Figure>"}),
                    new_output("display_data", {"text/latex": r"$\displaystyle \beta_t < 1$"}),
                    new_output("display_data", {"text/markdown": "**Not measured**: $L$"}),
                    new_output("stream", name="stdout", text="cost $1 and $2 " + "wide " * 60),
                ],
                id="cell-4",
            ),
            new_code_cell("if outputs is not None:\n    pass", id="cell-5"),
        ]
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A folder as ``reports/``: a page as an executed notebook, and the report that links to it."""
    folder = tmp_path_factory.mktemp("reports with a space")
    (folder / "notebooks").mkdir()
    executed = page.render(small_notebook(), "01_small", folder)
    (folder / "notebooks" / "01_small.html").write_text(executed, encoding="utf-8")
    report = page.render(small_notebook(), "08_report", folder, is_report=True)
    (folder / "index.html").write_text(report, encoding="utf-8")
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_equation_of_the_notebooks_becomes_mathml(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an equation that stays TeX warns
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                html = page.markdown(cell.source)
                seen = re.sub(
                    r"<[^>]+>", "", re.sub(r"<(code|pre)\b.*?</\1>", "", html, flags=re.S)
                )
                assert "$" not in seen and "\\" not in seen


@pytest.mark.parametrize(
    "source",
    [
        "`echo $HOME` and `echo $$; kill $$`",
        "costs $5; run `echo $HOME` or pay $6",
        "from $5 to $6, or US$7 and 8$",
        "```sh\n$$a$$\nx=$b$\n```",
        "    $$a$$",
        "<code>$x$</code> and <pre>$y$</pre>",
        r"\$a\$",
    ],
)
def test_dollars_that_are_no_maths_stay(source):
    html = page.markdown(source)
    assert "<math" not in html
    assert re.sub(r"<[^>]+>", "", html).count("$") == source.count("$")


@pytest.mark.parametrize(
    "source, equations",
    [
        ("a $x_1 < y_1$ b", 1),
        ("*see $a_b$* and **$c*d$ $e*f$**", 3),
        ("|a|b|\n|-|-|\n|$x$|`$y$`|", 1),
        ("$$a\n + b$$\n\nThen $c$.", 2),
        ("so $$a$$, and", 1),
        (r"\begin{align}a&=b\\c&=d\end{align}", 1),
    ],
)
def test_maths_anywhere_in_markdown(source, equations):
    html = page.markdown(source)
    assert html.count("<math") == equations and "$$" not in html


def test_an_equation_that_cannot_be_read_stays_as_code():
    with pytest.warns(UserWarning, match="stays TeX"):
        assert page.markdown(r"a $\frac{1 < 2$ b") == "<p>a <code>\\frac{1 &lt; 2</code> b</p>\n"


def test_a_dense_picture_is_shown_at_its_own_size():
    assert 'width="902" height="432"' in page.picture(png(), "a")
    assert 'width="300" height="100"' in page.picture(png((300, 100), dpi=96), "a")
    assert 'alt="&quot;a&quot; &lt; b"' in page.picture(png(), '"a" < b')


def test_plumbing_is_folded_and_the_rest_is_not():
    cells = {
        "seed = 7": {"tags": ["parameters"]},
        "x = 1": {"tags": ["plumbing"]},
        "y = 1": {"jupyter": {"source_hidden": True}},
        "import torch\nassert torch": {},
        "if outputs is not None:\n    save()": {},
    }
    assert all(
        page.folded(new_code_cell(source, metadata=metadata)) for source, metadata in cells.items()
    )
    shown = ["x = 1", "if weights is None:\n    train()", "%time x", "K = 1\nimport torch", ""]
    assert not any(page.folded(new_code_cell(source)) for source in shown)


def test_equal_notebooks_give_equal_pages(reports):
    assert page.render(small_notebook(), "01_small", reports) == page.render(
        small_notebook(), "01_small", reports
    )


def test_text_that_a_cell_puts_out_is_part_of_the_page(tmp_path):
    text = (
        "## Put out\n\nHere $x^t$.\n\n<table><tr><td>1</td></tr></table>\n\n|a|b|\n|-|-|\n|$c$|2|\n"
    )
    cells = [new_markdown_cell("# Title", id="cell-0")]
    cells.append(
        new_code_cell(
            "1", outputs=[new_output("execute_result", {"text/markdown": text}, execution_count=1)]
        )
    )
    html = page.render(new_notebook(cells=cells), "08_report", tmp_path, is_report=True)
    assert '<li><a href="#put-out">Put out</a></li>' in html and '<h2 id="put-out">' in html
    assert html.count("<math") == 2 and html.count('<div class="wide"><table>') == 2, (
        "each table in one box"
    )


def test_the_pages_name_no_address_to_load_from(reports):
    for path in reports.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|iframe|object|embed)\b|@import|url\(", text)
        assert re.findall("<link[^>]*>", text) == ['<link href="data:," rel="icon"/>']
        assert all(source.startswith("data:") for source in re.findall(r'src="([^"]{,30})', text))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium that records its console and every request."""
    selenium = pytest.importorskip("selenium.webdriver")
    chromium = next(
        filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
    )
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its chromedriver here")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield browser
    browser.quit()


def pages():
    """Names of the pages to look at, those of the small notebook first; those of this checkout
    where they exist.
    """
    real = [
        ROOT / "reports" / "index.html",
        *sorted((ROOT / "reports" / "notebooks").glob("*.html")),
    ]
    # A page that a former version framed is drawn anew when its stage next runs.
    ours = [
        str(path)
        for path in real
        if path.exists() and "Content-Security-Policy" in path.read_text(encoding="utf-8")
    ]
    return ["small/index.html", "small/notebooks/01_small.html", *ours]


@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("name", pages(), ids=lambda name: "/".join(name.split("/")[-2:]))
def test_a_page_in_a_browser(browser, reports, name, width):
    path = reports / name.removeprefix("small/") if name.startswith("small/") else ROOT / name
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 2, "mobile": False},
    )
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    look = browser.execute_script
    assert browser.get_log("browser") == [], "nothing on the console"
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()], (
        "the page asks for itself alone"
    )
    assert look("return document.documentElement.scrollWidth") == width, (
        "the page does not scroll sideways"
    )
    beyond = "return [...document.images].filter(i => i.getBoundingClientRect().right > innerWidth).length"
    assert look(beyond) == 0, "no picture is cut"
    assert look("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert look("return document.querySelectorAll('nav li a').length") > 0 or "train" in name, (
        "a list of contents"
    )
    links = look(
        "return [...document.querySelectorAll('a[href]')].map(a => [a.getAttribute('href'), a.href])"
    )
    for written, address in links:
        if written.startswith("#"):
            assert look("return document.getElementById(arguments[0]) !== null", written[1:]), (
                written
            )
        elif address.startswith("file:") and not name.startswith("/"):
            assert (path.parent / written.split("#")[0]).exists(), written
    seen = look(
        "const c = document.body.cloneNode(true); c.querySelectorAll('code, pre').forEach(e => e.remove()); return c.textContent"
    )
    assert "$$" not in seen and not re.search(
        r"\\(mathbb|mathcal|frac|sum|left|text|beta|hat|bar)\b", seen
    )


def test_the_small_page_in_a_browser(browser, reports):
    browser.get((reports / "notebooks" / "01_small.html").as_uri())
    look = browser.execute_script
    assert look("return document.querySelectorAll('math').length") == 8, (
        "one of them in the contents"
    )
    assert look(
        "return [...document.querySelectorAll('math')].every(m => m.getBoundingClientRect().height > 5)"
    )
    assert look("return [...document.querySelectorAll('summary')].map(s => s.textContent)") == [
        "Parameters",
        "Imports and checks",
        "Saving",
    ]
    assert look(
        "return [...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))"
    ) == [
        "#a-part",
        "#a-part-2",
        "#its-k",
    ]
    assert look(
        "return document.querySelector('.wide').scrollWidth > document.querySelector('.wide').clientWidth"
    )
    assert look("return [...document.querySelectorAll('a[href=\"../index.html\"]')].length") == 2
    browser.get((reports / "index.html").as_uri())
    assert look("return document.querySelectorAll('.highlight').length") == 0, (
        "the report shows no code"
    )
    browser.find_element("css selector", 'a[href="notebooks/01_small.html"]').click()
    browser.find_element("css selector", 'a[href="../index.html"]').click()
    assert browser.current_url == (reports / "index.html").as_uri()
