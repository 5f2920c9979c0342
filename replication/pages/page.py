"""Executed notebooks as single pages that load nothing: equations as MathML, pictures inside."""

from __future__ import annotations

import html
import re
from copy import deepcopy
from pathlib import Path
from string import Template

from bs4 import BeautifulSoup
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_markdown_cell
from pygments.formatters import HtmlFormatter

FRAME = Path(__file__).with_name("frame.html")
# What is code stays as it is. A dollar opens mathematics only beside what it encloses: prices and
# shell variables stay what they are.
CODE = r"```.*?```|`[^`\n]+`|<(?:pre|code)\b.*?</(?:pre|code)>"
BLOCK = r"\$\$(?P<block>.+?)\$\$"
INLINE = r"(?<![$\\\w])\$(?P<inline>(?![\s$])(?:\\.|[^$`\\])+?(?<!\s))\$(?![\d$])"
EQUATION = re.compile(f"{CODE}|{BLOCK}|{INLINE}", re.DOTALL)


def mathml(match: re.Match) -> str:
    """MathML of an equation in TeX; code, and what cannot be read as TeX, stays."""
    tex = match["block"] or match["inline"]
    if tex is None:
        return match[0]
    try:
        reader = LatexToMathML(fancy_error=False)
        math = reader.convert_with_local_state(tex.strip(), displaystyle=bool(match["block"]))
    except LatexError:
        return f"<code>{html.escape(tex.strip())}</code>"
    return f'<span class="equation">{math}</span>' if match["block"] else math


class Readable(Preprocessor):
    """Marks in place of the equations of text, as readers of Markdown and HTML take MathML apart;
    plumbing and parameters folded; no state of widgets.
    """

    def __init__(self, without_code: bool):
        super().__init__(enabled=True)
        self.without_code = without_code
        self.equations: dict[str, str] = {}

    def marked(self, text: str) -> str:
        """The text with a mark in place of each equation."""

        def mark(match: re.Match) -> str:
            math = mathml(match)
            if math == match[0]:
                return math
            name = f"\ue000{len(self.equations)}\ue001"
            self.equations[name] = math
            return name

        return EQUATION.sub(mark, text)

    def unmarked(self, text: str) -> str:
        """The text with its equations."""
        return re.sub("\ue000\\d+\ue001", lambda match: self.equations[match[0]], text)

    def preprocess(self, nb, resources):
        cells = []
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = self.marked(cell.source)
            tags = set(cell.metadata.get("tags", []))
            if tags & {"plumbing", "parameters", "injected-parameters"} and not self.without_code:
                code = html.escape(cell.source)
                kind = "Parameters" if "parameters" in tags else "Code"
                cells.append(
                    new_markdown_cell(
                        f"<details><summary>{kind}</summary><pre>{code}</pre></details>"
                    )
                )
                cell.metadata["transient"] = {"remove_source": True}
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                live = [kind for kind in data if "widget" in kind or "javascript" in kind]
                for kind in live:
                    del data[kind]
                if live and "text/plain" in data:
                    data["text/plain"] = "(interactive where the notebook runs)"
                for kind in {"text/markdown", "text/html"} & data.keys():
                    data[kind] = self.marked(data[kind])
            cells.append(cell)
        nb.cells = cells
        return nb, resources


def headings(soup: BeautifulSoup) -> str:
    """The list of contents."""
    found: list[str] = []
    taken = set()
    for tag in soup.find_all(["h2", "h3"]):
        for link in tag.find_all("a", class_="anchor-link"):
            link.decompose()
        if tag.get("id"):
            tag["id"] = f"{tag['id']}-{len(found)}" if tag["id"] in taken else tag["id"]
            taken.add(tag["id"])
            text = html.escape(tag.get_text().strip())
            found.append(f'<li class="{tag.name}"><a href="#{tag["id"]}">{text}</a></li>')
    return "\n".join(found)


def render(notebook, is_report: bool = False, base: Path | None = None) -> str:
    """The page of an executed notebook. is_report: without code. base: where its pictures are."""
    readable = Readable(without_code=is_report)
    exporter = HTMLExporter(
        template_name="basic", embed_images=True, exclude_input=is_report, preprocessors=[readable]
    )
    resources = {"metadata": {"path": str(base or ".")}}
    soup = BeautifulSoup(
        exporter.from_notebook_node(deepcopy(notebook), resources)[0], "html.parser"
    )
    for table in soup.find_all("table"):
        if table.find_parent("table") is None:
            table.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    contents = headings(soup)
    for link in soup.find_all("a", href=True):  # from notebooks/ to reports/ and reports/notebooks/
        href = str(link["href"])
        if re.fullmatch(r"[\w.]+\.ipynb", href):
            folder = "notebooks/" if is_report else ""
            link["href"] = folder + href.removesuffix(".ipynb") + ".html"
        elif href.startswith("../") and not is_report:
            link["href"] = f"../{href}"
    if not is_report:
        contents = f'<li><a href="../index.html">The report</a></li>\n{contents}'
    title = soup.find("h1")
    return Template(FRAME.read_text(encoding="utf-8")).substitute(
        title=re.sub(
            "\ue000.*?\ue001", "", html.escape(title.get_text().strip() if title else "Notebook")
        ),
        code_style=HtmlFormatter(style="friendly").get_style_defs(".highlight"),
        contents=readable.unmarked(contents),
        body=readable.unmarked(str(soup)),
        footer="This page is one file and loads nothing. It was made from <code>notebooks/</code> "
        "by <code>nonequilibrium notebook</code>.",
    )
