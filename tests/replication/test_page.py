"""The pages: what is mathematics; in headless Chromium, that they need no network."""

import base64
import io
import json
import os
import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from replication.files import ROOT
from replication.pages import page

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
TEXT = r"""# 1. The bound of $K$

Inline $q(x^t|x^{t-1}) = \mathcal N(0, I)$, `echo $HOME $$`, $5 or $6, and [next](02_next.ipynb).

$$K = -\sum_{t=2}^T \mathbb E_q\, \mathrm{KL}\left(q\,\|\,p\right)$$

## A part

## A part
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A folder as ``reports/``: an executed notebook, and the report that links to it."""
    folder = tmp_path_factory.mktemp("reports with a space")
    file = io.BytesIO()
    Image.new("RGB", (900, 400), "teal").save(file, "PNG")
    picture = {"image/png": base64.encodebytes(file.getvalue()).decode()}
    wide = (
        "<table><tr>" + "".join(f"<th>a long heading {n}</th>" for n in range(20)) + "</tr></table>"
    )
    outputs = [
        new_output("execute_result", {"text/html": wide}, execution_count=1),
        new_output("display_data", picture, metadata={"image/png": {"alt": "a teal box"}}),
        new_output("display_data", {"text/markdown": "**Measured**: $L$"}),
        new_output("stream", name="stdout", text="cost $1 and $2 " + "wide " * 60),
    ]
    cells = [
        new_markdown_cell(TEXT),
        new_code_cell("seed = 7", metadata={"tags": ["parameters"]}),
        new_code_cell("import torch", metadata={"tags": ["plumbing"]}),
        new_code_cell("answer = 42", outputs=outputs),
    ]
    notebook = new_notebook(cells=cells)
    (folder / "notebooks").mkdir()
    for name in ("01_small", "02_next"):
        html = page.render(notebook)
        (folder / "notebooks" / f"{name}.html").write_text(html, encoding="utf-8")
    (folder / "index.html").write_text(page.render(notebook, is_report=True), encoding="utf-8")
    return folder


def test_a_page_has_equations_alternative_texts_contents_and_links(reports):
    html = (reports / "notebooks" / "01_small.html").read_text(encoding="utf-8")
    assert html.count("<math") == 4 and html.count('<span class="equation">') == 1
    assert "echo $HOME $$" in html and "$5 or $6" in html and "cost $1 and $2" in html
    assert 'alt="a teal box"' in html and "No description" not in html
    assert html.count("<summary>") == 2 and "answer" in html
    assert re.findall(r'<li class="h2"><a href="#([^"]+)">', html) == ["A-part", "A-part-1"]
    assert 'href="02_next.html"' in html and 'href="../index.html"' in html
    report = (reports / "index.html").read_text(encoding="utf-8")
    assert "answer" not in report and "import torch" not in report


def test_a_page_names_no_address_to_load_from(reports):
    for path in reports.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|iframe|object|embed)\b|@import|url\(", text)
        assert all(source.startswith("data:") for source in re.findall(r'src="([^"]{,30})', text))


def test_links_of_the_report_have_words():
    """HTML in the Markdown of an output would lose them."""
    cells = nbformat.read(ROOT / "notebooks/pipeline/report.ipynb", as_version=4).cells
    names = {"reports": "reports"}
    exec(next(cell.source for cell in cells if "def link(" in cell.source), names)
    link = new_output("display_data", {"text/markdown": names["link"]("01_swiss_roll", "Words")})
    notebook = new_notebook(cells=[new_markdown_cell("# A"), new_code_cell("", outputs=[link])])
    html = page.render(notebook, is_report=True)
    assert '<a href="notebooks/01_swiss_roll.html">Words</a>' in html


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_equation_of_the_notebooks_becomes_mathml(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|`[^`\n]+`", "", cell.source, flags=re.DOTALL)
            for match in page.EQUATION.finditer(text):
                assert "<math" in page.mathml(match), match[0]


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
    right = "i => i.getBoundingClientRect().right > innerWidth"
    beyond = f"return [...document.images].filter({right}).length"
    assert look(beyond) == 0, "no picture is cut"
    assert look("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert look("return document.querySelectorAll('nav li a').length") > 0
    links = look(
        "return [...document.querySelectorAll('a[href]')]"
        ".map(a => [a.getAttribute('href'), a.href])"
    )
    for written, address in links:
        if written.startswith("#"):
            assert look("return document.getElementById(arguments[0]) !== null", written[1:]), (
                written
            )
        elif address.startswith("file:") and not name.startswith("/"):
            assert (path.parent / written.split("#")[0]).exists(), written
    seen = look(
        "const c = document.body.cloneNode(true);"
        "c.querySelectorAll('code, pre').forEach(e => e.remove()); return c.textContent"
    )
    assert "$$" not in seen and not re.search(
        r"\\(mathbb|mathcal|frac|sum|left|text|beta|hat|bar)\b", seen
    )
