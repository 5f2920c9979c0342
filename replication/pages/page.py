"""Executed notebooks as pages that need neither a server nor a network: equations as MathML,
pictures and style inside the file.
"""

from __future__ import annotations

import ast
import base64
import html
import io
import re
import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import FileSystemLoader
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
    MathBlockParser,
    MathInlineParser,
)
from PIL import Image
from pygments.formatters import HtmlFormatter

TEMPLATE = Path(__file__).with_name("page.html.j2")
PLUMBING = "plumbing"  # a tag: the cell's code is folded away
# A dollar opens maths only beside what it encloses, as in Pandoc, and no formula holds a backtick:
# prices and shell variables stay what they are.
INLINE = r"(?<![$\\\w])\$(?P<math_inline_tex>(?![\s$])(?:\\.|[^$`\\])+?(?<!\s))\$(?![\d$])"
BLOCK = r"(?<!\\)\$\$(?P<math_block_tex>(?:\\.|[^$`\\])+?)\$\$"


def mathml(tex: str, block: bool) -> str:
    """An equation in TeX as MathML; one that cannot be read stays TeX, as code, with a warning."""
    try:
        math = LatexToMathML(fancy_error=False).convert_with_local_state(
            tex.strip(), displaystyle=block
        )
    except LatexError as error:
        warnings.warn(f"the equation {tex.strip()!r} stays TeX: {error}", stacklevel=2)
        return f"<code>{html.escape(tex.strip())}</code>"
    return f'<span class="equation">{math}</span>' if block else math


def _sided(pattern: str) -> str:
    """nbconvert's block parser takes $$ wherever it stands; here it must begin and end lines of its
    own.
    """
    return rf"^ {{0,3}}(?:{pattern})[ \t]*[.,;]?[ \t]*$"


class _Block(MathBlockParser):
    _ENVIRONMENT = r"\\begin\{(?P<math_env_name>[a-z]+\*?)\}[^`]*?\\end\{(?P=math_env_name)\}"
    SPECIFICATION = {
        **MathBlockParser.SPECIFICATION,
        "multiline_math": _sided(BLOCK.replace("(?P<math_block_tex>", "(?:"))
        + "|"
        + _sided(_ENVIRONMENT),
    }


class _Inline(MathInlineParser):
    SPECIFICATION = {
        **MathInlineParser.SPECIFICATION,
        "block_math_tex": BLOCK,
        "inline_math_tex": INLINE,
        "html_code": r"(?s:<(?P<html_code_tag>code|pre|kbd|samp)\b[^>]*>.*?</(?P=html_code_tag)>)",
    }
    DEFAULT_RULES = ("html_code", *MathInlineParser.DEFAULT_RULES)

    def parse_html_code(self, match, state) -> int:
        """Code that is written as HTML, as it is."""
        state.append_token({"type": "inline_html", "raw": match[0]})
        return match.end()


class _Renderer(IPythonRenderer):
    """Markdown to HTML, equations as MathML. headings: collects (level, id, inner HTML)."""

    def __init__(self, headings: list, **options):
        super().__init__(escape=False, **options)
        self.headings = headings

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)

    def heading(self, text: str, level: int, **_) -> str:
        plain = html.unescape(re.sub(r"<[^>]+>", "", text))
        slug = re.sub(r"\W+", "-", plain.lower()).strip("-") or "part"
        taken = {other for _, other, _ in self.headings}
        anchor = next(
            a
            for n in range(1, len(taken) + 2)
            if (a := slug if n == 1 else f"{slug}-{n}") not in taken
        )
        self.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", text)))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        return f'<div class="wide"><table>{text}</table></div>\n'


def markdown(source: str, headings: list | None = None, **options) -> str:
    """Markdown as HTML, $…$ and $$…$$ as MathML but for those in code. options: those of
    nbconvert's renderer.
    """
    renderer = _Renderer([] if headings is None else headings, **options)
    renderer.register(
        "table", lambda _, text: renderer.table(text)
    )  # before the plugin of the same name does
    parse = MarkdownWithMath(renderer=renderer, block=_Block(), inline=_Inline(hard_wrap=False))
    return parse.render(source)


def _mathml(equation: re.Match, block: bool) -> str:
    """MathML of what stands between the dollars of HTML."""
    return mathml(html.unescape(equation[1]), block)


def output_html(source: str) -> str:
    """HTML that a cell put out, its equations as MathML, each table in a box that scrolls by
    itself.
    """
    soup = BeautifulSoup(source, "html.parser")
    for text in soup.find_all(string=re.compile(r"\$")):
        if text.find_parent(["code", "pre", "script", "style", "math", "textarea"]) is None:
            escaped = html.escape(text, quote=False)
            for pattern, block in ((BLOCK, True), (INLINE, False)):
                escaped = re.sub(pattern, partial(_mathml, block=block), escaped)
            text.replace_with(BeautifulSoup(escaped, "html.parser"))
    for table in soup.find_all("table"):
        if table.find_parent("table") is None and table.find_parent(class_="wide") is None:
            table.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    return str(soup)


def picture(content: bytes, alt: str) -> str:
    """A PNG, GIF or JPEG as an <img> that holds its bytes, as wide as its dots per inch say: dense
    pixels stay sharp.
    """
    with Image.open(io.BytesIO(content)) as image:
        dpi = image.info.get("dpi", (96,))[0] or 96
        size = [round(pixels * 96 / dpi) for pixels in image.size]
        kind = Image.MIME[image.format or ""]
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="{html.escape(alt)}">'


def figure(paths: list[Path], caption: str) -> str:
    """Pictures with one caption under them."""
    pictures = "\n".join(picture(path.read_bytes(), caption) for path in paths)
    return f"<figure>\n{pictures}\n<figcaption>{html.escape(caption, quote=False)}</figcaption>\n</figure>"


def folded(cell) -> str:
    """What a cell's code is about if readers can do without it, else an empty text.

    Folded are cells with the tag ``plumbing``, those that JupyterLab folds, the parameters, and
    cells that begin with an import or that do nothing but save.
    """
    tags = set(cell.metadata.get("tags", []))
    if tags & {"parameters", "injected-parameters"}:
        return "Parameters" if "parameters" in tags else "Parameters of this run"
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:  # a line magic
        body = []
    if body and isinstance(body[0], ast.Import | ast.ImportFrom):
        return "Imports and checks"
    if (
        len(body) == 1
        and isinstance(body[0], ast.If)
        and ast.unparse(body[0].test) == "outputs is not None"
    ):
        return "Saving"
    return (
        "Code" if PLUMBING in tags or cell.metadata.get("jupyter", {}).get("source_hidden") else ""
    )


def executed_notebooks(reports: Path) -> list[tuple[str, str]]:
    """(address from ``reports``, title) of every executed notebook there."""
    found = []
    for path in sorted((reports / "notebooks").glob("*.html")):
        title = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"), flags=re.S)
        found.append(
            (f"notebooks/{path.name}", html.unescape(title[1]).strip() if title else path.stem)
        )
    return found


def render(
    notebook, name: str, reports: Path, is_report: bool = False, base: Path | None = None
) -> str:
    """The page of an executed notebook.

    name: of the result. reports: the folder that holds the report and, in ``notebooks/``, the
    executed notebooks.
    is_report: no code, and links to the executed notebooks; else code, plumbing folded, and a link
    back to the report.
    base: where pictures that Markdown names are sought.
    """
    notebook = deepcopy(notebook)
    headings: list = []
    options = {"embed_images": True, "path": str(base or ".")}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = markdown(
                cell.source, headings, attachments=cell.get("attachments", {}), **options
            )
            continue
        for output in cell.get(
            "outputs", []
        ):  # a section of the report is text that a cell puts out
            if source := output.get("data", {}).pop("text/markdown", None):
                output["data"]["text/html"] = markdown(source, headings, **options)
        if headings:
            cell.metadata["under"] = re.sub(r"<[^>]+>", "", headings[-1][2])
    first = next((re.sub(r"<[^>]+>", "", text) for level, _, text in headings if level == 1), None)
    title = html.unescape(first) if first and is_report else " · ".join(filter(None, [first, name]))
    exporter = HTMLExporter(
        template_file=TEMPLATE.name,
        extra_loaders=[FileSystemLoader(TEMPLATE.parent)],
        exclude_input=is_report,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        filters={
            "markdown2html": markdown,
            "output_html": output_html,
            "folded": folded,
            "picture": lambda data, alt: picture(base64.b64decode(data), alt),
        },
    )
    page = {
        "title": html.unescape(title),
        "contents_after": next(
            (cell.get("id") for cell in notebook.cells if cell.cell_type == "markdown"), None
        ),
        "contents": [heading for heading in headings if heading[0] in (2, 3)],
        "notebooks": executed_notebooks(reports) if is_report else [],
        "is_report": is_report,
        "name": name,
        "code_style": HtmlFormatter(style="friendly").get_style_defs(".highlight"),
    }
    return exporter.from_notebook_node(notebook, {"metadata": {"name": name}, "page": page})[0]
