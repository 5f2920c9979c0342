"""Which code a stage of the pipeline needs: a digest of each file that it imports, directly or not.

    nonequilibrium code

writes ``.code/<stage>.txt``, a line a file. A stage depends on its text, so that a change of code
makes stale what it should; comments, docstrings and formatting change no digest. What became stale,
and by what, is the difference between two such texts.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from nonequilibrium.files import save_contents
from replication.files import ROOT

CODE = ROOT / ".code"
PLACES = {"nonequilibrium": ROOT / "src", "replication": ROOT}  # where each package lies
NO_NUMBERS = ROOT / "replication" / "pages"  # draws and frames, and changes no number


def tree(node) -> str:
    """A syntax tree as text without places, docstrings and empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return f"[{','.join(tree(item) for item in node if not _is_text_alone(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    inner = ",".join(f"{name}={tree(value)}" for name, value in fields if value not in (None, []))
    return f"{type(node).__name__}({inner})"


def _is_text_alone(node) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@functools.lru_cache(maxsize=512)  # the bytes are the key
def digest(source: bytes) -> str:
    """The SHA-256 of what a program does; of its bytes where it is not Python."""
    try:
        return hashlib.sha256(tree(ast.parse(source)).encode()).hexdigest()
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()


def file_of(module: str) -> Path | None:
    """The file of a module of ours."""
    parts = module.split(".")
    if parts[0] not in PLACES:
        return None
    path = PLACES[parts[0]].joinpath(*parts)
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


def imports(source: bytes) -> Iterator[Path]:
    """The files of ours that a program imports, inside functions too."""
    from nonequilibrium import _HOME

    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "nonequilibrium":
                names = [_HOME.get(name, name) for name in names]
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        yield from filter(None, map(file_of, names))


def manifest(start: Iterable[Path], source: bytes = b"", without: Path | None = None) -> str:
    """A line for each file that ``start``, and a program ``source``, import; ``without``: a folder left out."""
    found: dict[Path, str] = {}
    new = {*start, *imports(source)}
    while new:
        path = new.pop()
        if path in found or (without and without in path.parents):
            continue
        raw = path.read_bytes()
        found[path] = digest(raw)
        new.update(imports(raw))
    lines = sorted(f"{path.relative_to(ROOT).as_posix()} {value}" for path, value in found.items())
    return "".join(f"{line}\n" for line in lines)


def cells(path: Path) -> bytes:
    """The code cells of a notebook as one program, without the lines that only IPython understands."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in found if cell["cell_type"] == "code")
    kept = (line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
    return "\n".join(kept).encode()


def stages() -> dict[str, str]:
    """What ``.code`` holds: {stage: text}.

    Trainings of images take up to hours, so they depend on what their data set is alone: they run
    when parameters change, and by force.
    """
    from replication.data.sources import DATA_SETS  # here, as the register brings PyTorch
    from replication.settings.registry import EXPERIMENTS

    shop, notebooks = ROOT / "replication", ROOT / "notebooks"
    commands = {"data": "data/fetch", "restorations": "restoration/restorations"}
    texts = {name: manifest([shop / f"{file}.py"]) for name, file in commands.items()}
    for path in sorted(notebooks.glob("[0-9]*.ipynb")):
        texts[path.stem] = manifest([shop / "pages" / "notebooks.py"], cells(path))
    train, measure = (cells(notebooks / f"{name}.ipynb") for name in ("train", "measure"))
    for name, its in EXPERIMENTS.items():
        if its.draws is not None:  # the code that draws the images is the data set
            texts[f"train_{name}"] = manifest(filter(None, [file_of(its.draws.__module__)]))
        elif its.images:
            about = hashlib.sha256(repr(DATA_SETS[its.data]).encode()).hexdigest()
            texts[f"train_{name}"] = f"{its.data} {about}\n"
        else:
            texts[f"train_{name}"] = manifest([], train, NO_NUMBERS)
        texts[f"measure_{name}"] = manifest(
            filter(None, [file_of(its.measure)]), measure, NO_NUMBERS
        )
    return texts


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium code`` takes no words."""


def run(_: argparse.Namespace) -> None:
    """Write the digests of the code that every stage needs."""
    save_contents({CODE / f"{name}.txt": text.encode() for name, text in stages().items()})
