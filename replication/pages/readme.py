"""Write the tables and the glossary of README.md from what was measured, so that no number there is
copied by hand.

nonequilibrium readme
"""

from __future__ import annotations

import argparse
import re
import textwrap

from nonequilibrium.files import save_atomically
from replication.files import ROOT
from replication.pages import prose, tables
from replication.pages.findings import Findings, load

SYMBOLS = 4  # words of the glossary that stand under the tables


def wrapped(text: str) -> str:
    """Lines of at most 100 characters, but for those of tables; an item of a list begins with
    ``*``.
    """
    blocks = re.split(r"\n(?=\n|\||\* )", text.strip())
    fill = [
        b
        if b.startswith("|")
        else textwrap.fill(" ".join(b.split()), 100, subsequent_indent="  " * b.startswith("* "))
        for b in blocks
    ]
    return "\n".join(
        "\n" * block.startswith("\n") + line for block, line in zip(blocks, fill, strict=True)
    )


def parts(found: Findings) -> dict[str, str]:
    """What stands between each pair of marks, ``<!-- results -->`` and ``<!-- /results -->``, in
    README.md.
    """
    words = re.split(r"\n(?=\* )", prose.section("glossary", found))
    return {
        "results": wrapped(prose.section("results", found, prose.as_markdown)),
        "equations": prose.as_markdown(tables.equations(found)),
        "symbols": wrapped("\n".join(words[:SYMBOLS])),
        "glossary": wrapped("\n".join(words[SYMBOLS:])),
    }


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium readme`` takes no words."""


def run(_: argparse.Namespace) -> None:
    """Write what stands between the marks in README.md."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, new in parts(load(ROOT / "reports")).items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        whole = f"{begin}\n{new}\n{end}".replace("\\", r"\\")  # re.sub reads a backslash as its own
        text = re.sub(f"{begin}.*?{end}", whole, text, flags=re.S)
    save_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
