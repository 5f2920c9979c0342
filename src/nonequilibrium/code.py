"""Which code a notebook or a command needs, and a digest of it that comments, docstrings and formatting leave alone.

    nonequilibrium code

writes ``.code/<notebook>.txt``, a line a module: its name and its digest. A stage of the pipeline depends on the file of its notebook,
so that a change of code makes stale what it should, and a change of prose nothing.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
from collections.abc import Iterable
from pathlib import Path

from nonequilibrium import _HOME
from nonequilibrium.files import PACKAGE, ROOT, code_digest, save_atomically

CODE = ROOT / ".code"
COMMANDS = {"data": ["nonequilibrium.data.fetch"]}  # stages that run no notebook
EVERY_NOTEBOOK = ["nonequilibrium.report.notebooks"]  # executes it
# What frames an executed notebook changes none of its numbers, and a new frame is not worth an hour of measuring: only the report
# depends on it. The other pages get it when their stages next run.
FRAME, REPORT = "nonequilibrium.report.page", "08_report"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package: {dotted name: file}."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str) -> set[str]:
    """The package's modules that ``source`` imports, anywhere in it; a name of the package itself stands for its home module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module == "nonequilibrium":
                found |= {f"nonequilibrium.{_HOME[alias.name]}" for alias in node.names if alias.name in _HOME}
    return found & modules().keys()


def needed(start: Iterable[str]) -> list[str]:
    """All modules that the modules ``start`` need, themselves included, sorted."""
    found, new = set(), set(start)
    while new:
        found |= new
        new = {name for module in new for name in imports(modules()[module].read_text(encoding="utf-8"))} - found
    return sorted(found)


def digest(path: Path) -> str:
    """Of a module and of the templates that lie beside it under its name, see ``files.code_digest``."""
    return code_digest([path, *path.parent.glob(f"{path.stem}.*.j2")])


def notebook_code(path: Path) -> str:
    """The code cells of a notebook as one program, without the lines that only IPython understands."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def manifest(start: Iterable[str], but: Iterable[str] = ()) -> str:
    """A line for each module that ``start`` needs, ``but`` for some: its name and its digest."""
    return "".join(f"{name} {digest(modules()[name])}\n" for name in needed(start) if name not in but)


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium code`` takes no words."""


def run(_: argparse.Namespace) -> None:
    """Write the digests of the code that every notebook and every other stage needs."""
    starts = dict(COMMANDS)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        starts[path.stem] = sorted(imports(notebook_code(path))) + EVERY_NOTEBOOK
    for name, start in starts.items():
        text = manifest(start, but=() if name == REPORT else (FRAME,))
        save_atomically(CODE / f"{name}.txt", lambda path, text=text: path.write_text(text, encoding="utf-8"))
