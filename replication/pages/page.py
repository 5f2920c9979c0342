"""Executed notebooks as single pages that load nothing: equations as MathML, pictures inside."""

import html
import re
from copy import deepcopy
from pathlib import Path
from string import Template

from bs4 import BeautifulSoup
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

FRAME = Path(__file__).with_name("frame.html")
# A dollar opens mathematics only beside what it encloses: prices and shell variables stay.
BLOCK = r"\$\$(?P<block>.+?)\$\$"
INLINE = r"(?<![$\\\w])\$(?P<inline>(?![\s$])(?:\\.|[^$`\\])+?(?<!\s))\$(?![\d$])"
EQUATION = re.compile(f"{BLOCK}|{INLINE}", re.DOTALL)
FOLDED = {"plumbing": "Code", "parameters": "Parameters", "injected-parameters": "Parameters"}


def mathml(match: re.Match) -> str:
    """MathML of an equation in escaped TeX; what is no TeX becomes code."""
    tex = (match["block"] or match["inline"]).strip()
    try:
        convert = LatexToMathML(fancy_error=False).convert_with_local_state
        math = convert(html.unescape(tex), displaystyle=bool(match["block"]))
    except LatexError:
        return f"<code>{tex}</code>"
    return f'<span class="equation">{math}</span>' if match["block"] else math


def headings(soup: BeautifulSoup) -> str:
    """The list of contents; each heading gets an id of its own."""
    lines: list[str] = []
    taken = set()
    for anchor in soup.find_all("a", class_="anchor-link"):
        anchor.decompose()
    for tag in soup.find_all(["h2", "h3"], id=True):
        tag["id"] = f"{tag['id']}-{len(lines)}" if tag["id"] in taken else tag["id"]
        taken.add(tag["id"])
        link = f'<a href="#{html.escape(str(tag["id"]))}">{tag.decode_contents().strip()}</a>'
        lines.append(f'<li class="{tag.name}">{link}</li>')
    return "\n".join(lines)


def render(notebook, is_report: bool = False, base: Path | None = None) -> str:
    """The page of an executed notebook. is_report: without code. base: where its pictures are."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if any("widget" in kind or "javascript" in kind for kind in output.get("data", {})):
                output.data = {"text/plain": "(interactive where the notebook runs)"}
    exporter = HTMLExporter(template_name="basic", embed_images=True, exclude_input=is_report)
    resources = {"metadata": {"path": str(base or ".")}}
    soup = BeautifulSoup(exporter.from_notebook_node(notebook, resources)[0], "html.parser")
    for tag, summary in FOLDED.items():
        for code in soup.select(f".celltag_{tag} > .input"):
            details = code.wrap(soup.new_tag("details"))
            details.insert(0, BeautifulSoup(f"<summary>{summary}</summary>", "html.parser"))
    for table in soup.select("table:not(table table)"):
        table.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    for link in soup.find_all("a", href=True):  # from notebooks/ to reports/ and reports/notebooks/
        href = str(link["href"])
        if re.fullmatch(r"[\w.]+\.ipynb", href):
            folder = "notebooks/" if is_report else ""
            link["href"] = folder + href.removesuffix(".ipynb") + ".html"
        elif href.startswith("../") and not is_report:
            link["href"] = f"../{href}"
    for text in soup.find_all(string=EQUATION):
        if not text.find_parent(["code", "pre"]):
            escaped = EQUATION.sub(mathml, html.escape(text, quote=False))
            text.replace_with(BeautifulSoup(escaped, "html.parser"))
    contents = headings(soup)
    if not is_report:
        contents = f'<li><a href="../index.html">The report</a></li>\n{contents}'
    return Template(FRAME.read_text(encoding="utf-8")).substitute(
        title=html.escape(title.get_text().strip() if (title := soup.find("h1")) else "Notebook"),
        code_style=HtmlFormatter(style="friendly").get_style_defs(".highlight"),
        contents=contents,
        body=str(soup),
    )
