"""The words of the report and of README.md: templates beside this module, filled in with what was
measured.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pandas import DataFrame

from replication.pages import page, tables
from replication.pages.findings import Findings, number, with_error
from replication.settings import paper
from replication.settings.registry import EXPERIMENTS

HERE = Path(__file__)
SECTIONS = sorted(path.name.split(".")[1] for path in HERE.parent.glob(f"{HERE.stem}.*.md.j2"))


def unmeasured(command: str) -> str:
    """The sentence in place of what is not there, with its remedy."""
    return f"*Not measured yet: `{command}` measures it.*"


def as_html(table: DataFrame) -> str:
    """A table for the page; a value and its error stay on one line."""
    return table.to_html(index=False, border=0, justify="left").replace(" ± ", "&nbsp;±&nbsp;")


def as_markdown(table: DataFrame) -> str:
    """A table for README.md, its rows as short as possible."""
    text = table.to_markdown(
        index=False, disable_numparse=True, colalign=["left"] * len(table.columns)
    )
    return re.sub(r":?-{2,}", "---", re.sub(r" {2,}", " ", text))


def section(name: str, found: Findings, write=as_html) -> str:
    """Markdown of one section. write: how tables are written, ``as_html`` or ``as_markdown``."""

    def table(which: str, *given, but: tuple = (), otherwise: str = "dvc repro") -> str:
        """A function of ``tables`` by name, without the columns ``but``; ``otherwise``: the command
        that makes what is missing.
        """
        rows = getattr(tables, which)(found, *given).drop(columns=list(but), errors="ignore")
        return unmeasured(otherwise) if rows.empty else write(rows.loc[:, (rows != "").any()])

    def figure(address: str, caption: str) -> str:
        """A figure that another stage drew, embedded, with a caption."""
        path = found.folder / "figures" / address
        return (
            page.figure([path], caption)
            if path.exists()
            else f"*{address} has not been drawn yet.*"
        )

    environment = Environment(
        loader=FileSystemLoader(HERE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "title": lambda name: EXPERIMENTS[name].title,
        "log2": math.log2,
    }
    environment.filters["digits"] = tables.digits
    functions = {
        "table": table,
        "figure": figure,
        "with_error": with_error,
        "unmeasured": unmeasured,
    }
    template = environment.get_template(f"{HERE.stem}.{name}.md.j2")
    return (
        template.render(
            found=found, m=found.numbers, experiments=EXPERIMENTS, paper=paper, **functions
        ).strip()
        + "\n"
    )
