"""README and notebooks as a reader meets them: short, in sight, with links that lead somewhere."""

import json
import re

import pytest

from replication.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def code_of(path):
    """(source, whether it is hidden) of each code cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        ("".join(cell["source"]), cell["metadata"].get("jupyter", {}).get("source_hidden", False))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def test_readme_is_two_screens_with_a_command_on_the_first():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 200
    assert len(re.sub(r"```.*?```", "", text, flags=re.S).split()) <= 900
    assert text[: text.index("```")].count("\n") < 40


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_computes_its_bound_in_sight(path):
    seen = "\n".join(source for source, hidden in code_of(path) if not hidden)
    assert re.search(r"\b(full_bound|sampled_bound|bits_per_dim)\(", seen)
    assert "## Exercises" in path.read_text(encoding="utf-8")


def test_notebooks_draw_in_their_own_cells_and_hide_little():
    cells = [cell for path in NOTEBOOKS for cell in code_of(path)]
    drawing = re.compile(r"\b(sns|plt)\.|\bax\b|\baxes\b")
    assert sum(bool(drawing.search(source)) for source, hidden in cells if not hidden) >= 35
    lines = [(line, hidden) for source, hidden in cells for line in source.split("\n")]
    assert sum(hidden for _, hidden in lines) <= 0.15 * len(lines)


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "README.md"], ids=lambda path: path.stem)
def test_links_to_files_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    for target in LINK.findall(text):
        assert re.match(r"\w+:", target) or (path.parent / target).exists(), target
