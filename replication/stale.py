"""Which code a stage of the pipeline needs: a digest of each file that it imports, directly or not,
in ``.code/<stage>.txt``. Comments, docstrings and formatting change none.
"""

import argparse
import ast
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from nonequilibrium import _HOME
from nonequilibrium.files import save_contents
from replication.data.sources import DATA_SETS
from replication.files import ROOT
from replication.settings.registry import EXPERIMENTS

PLACES = {"nonequilibrium": ROOT / "src", "replication": ROOT}  # where each package lies


def tree(node) -> str:
    """A syntax tree as text, without docstrings, places and empty fields."""
    if isinstance(node, list):
        return f"[{','.join(filter(None, map(tree, node)))}]"
    if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
        return ""  # a docstring
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    inner = ",".join(f"{name}={tree(value)}" for name, value in fields if value not in (None, []))
    return f"{type(node).__name__}({inner})"


def file_of(module: str) -> Path | None:
    """The file of a module of ours."""
    place, path = PLACES.get(module.partition(".")[0]), module.replace(".", "/")
    files = (place / f"{path}.py", place / path / "__init__.py") if place else ()
    return next((file for file in files if file.is_file()), None)


@functools.lru_cache(maxsize=512)
def read(source: bytes) -> tuple[str, set[Path]]:
    """The digest of what a program does, and the files of ours that it imports."""
    program = ast.parse(source)
    modules: list[str] = []
    for node in ast.walk(program):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            homes = _HOME if node.module == "nonequilibrium" else {}
            names = [homes.get(alias.name, alias.name) for alias in node.names]
            modules += [node.module, *(f"{node.module}.{name}" for name in names)]
    digest = hashlib.sha256(tree(program).encode()).hexdigest()
    return digest, {*filter(None, map(file_of, modules))}


def manifest(modules: Iterable[str], source: bytes = b"") -> str:
    """A line for each file that ``modules`` and a program ``source`` need."""
    digests: dict[Path, str] = {}
    new = {*filter(None, map(file_of, modules)), *read(source)[1]}
    while new := new - digests.keys():
        path = new.pop()
        digests[path], more = read(path.read_bytes())
        new |= more
    lines = (f"{path.relative_to(ROOT).as_posix()} {text}\n" for path, text in digests.items())
    return "".join(sorted(lines))


def cells(path: Path) -> bytes:
    """The code cells of a notebook as one program, without lines for IPython."""
    notebook = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in notebook if cell["cell_type"] == "code")
    return "\n".join(line for line in code.splitlines() if line.lstrip()[:1] not in "%!").encode()


def stages() -> dict[str, str]:
    """{stage: its text in ``.code``}; a training of images, of hours, depends on its data alone."""
    texts = {
        "data": manifest(["replication.data.fetch"]),
        "restorations": manifest(["replication.restoration.restorations"]),
        "theory": manifest(["replication.theory.theory"]),
    }
    programs = {path.stem: cells(path) for path in (ROOT / "notebooks").rglob("*.ipynb")}
    for name, program in programs.items():
        texts[name] = manifest(["replication.pages.notebooks"], program)
    for name, declared in EXPERIMENTS.items():
        code, data = declared.code, declared.data
        if "draws" in code:  # the code that draws the images is the data set
            training = manifest([code["draws"]])
        elif declared.images:
            training = f"{data} {DATA_SETS[data].files}\n"
        else:
            training = manifest([code["model"], code.get("law", "")], programs["train"])
        texts[f"train_{name}"] = training
        texts[f"measure_{name}"] = manifest([declared.measure, *code.values()], programs["measure"])
    return texts


def run(_: argparse.Namespace) -> None:
    """Write the digests of the code that every stage needs."""
    save_contents({ROOT / f".code/{name}.txt": text.encode() for name, text in stages().items()})
