#!/usr/bin/env bash
# nbconvert 7.17.0 (with mistune 3.2.0, beautifulsoup4 4.14.2) and MathML in Markdown.
#
# With embed_images=True, nbconvert passes every inline HTML tag of a Markdown cell through Beautiful
# Soup by itself. A tag on its own is closed at once, so that <math><mi>x</mi></math> becomes
# <math></math><mi></mi>x and an equation written as MathML is shown as loose letters. Without
# embed_images the cell is rendered as written. No warning is given.
#
# Seen:
#   embedded: <p>a <math></math><mi></mi>x b</p>
#   plain:    <p>a <math><mi>x</mi></math> b</p>
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nbconvert==7.17.0 mistune==3.2.0 beautifulsoup4==4.14.2
"$folder/venv/bin/python" - <<'PYTHON'
from nbconvert import HTMLExporter
from nbformat.v4 import new_markdown_cell, new_notebook

notebook = new_notebook(cells=[new_markdown_cell("a <math><mi>x</mi></math> b")])
page = {
    embedded: HTMLExporter(template_name="basic", embed_images=embedded).from_notebook_node(notebook)[0]
    for embedded in (True, False)
}
lines = {key: next(line for line in text.splitlines() if "<math" in line) for key, text in page.items()}
print("embedded:", lines[True])
print("plain:   ", lines[False])
assert "<math></math><mi></mi>x" in lines[True], "MathML survives embed_images now"
assert "<math><mi>x</mi></math>" in lines[False]
PYTHON
