"""Who imports whom, file by file, and how long files and functions are."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from nonequilibrium import _HOME
from replication.files import ROOT

LIBRARY, WORKSHOP = ROOT / "src" / "nonequilibrium", ROOT / "replication"
GROUND = {"", "errors", "files", "settings", "distributed"}  # files that every room may import
ROOMS = {  # room: the rooms that it may import beside itself and the ground
    "data": set(),
    "diffusion": set(),
    "network": {"diffusion"},
    "bound": {"diffusion", "data"},
    "training": {"diffusion", "network", "bound"},
    "model": {"diffusion", "network", "bound", "data", "training"},
    "adapters": {"diffusion", "bound"},
}
CORE = {"torch", "numpy", "scipy", "safetensors", "tqdm", "nonequilibrium"}
FILES = sorted([*LIBRARY.rglob("*.py"), *WORKSHOP.rglob("*.py")])
OF_LIBRARY = [path for path in FILES if LIBRARY in path.parents]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def file_of(module: str) -> Path | None:
    path = (ROOT / "src" if module.startswith("nonequilibrium") else ROOT) / module.replace(
        ".", "/"
    )
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p in FILES), None)


@cache
def modules(path: Path) -> set[str]:
    """All that a file imports by name, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module == "nonequilibrium":
                inside = {f"nonequilibrium.{_HOME.get(a.name, a.name)}" for a in node.names}
            names |= inside if any(map(file_of, inside)) else {node.module}
    return names


@cache
def imported(path: Path) -> set[Path]:
    """The files of ours that a file imports."""
    return {*filter(None, map(file_of, modules(path)))} - {path}


def room(path: Path) -> str:
    first = path.relative_to(LIBRARY).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


@pytest.mark.parametrize("path", OF_LIBRARY, ids=label)
def test_the_library_imports_its_core_and_what_its_room_may(path):
    outside = {name.partition(".")[0] for name in modules(path)} - sys.stdlib_module_names
    assert outside <= CORE, "no library that only the workshop needs, and no file of it"
    allowed = GROUND | {room(path)} | ROOMS.get(room(path), set())
    assert {label(other) for other in imported(path) if room(other) not in allowed} == set()


def test_settings_need_errors_alone_and_pages_no_torch():
    for path in WORKSHOP.glob("settings/*.py"):
        assert {other for other in imported(path) if LIBRARY in other.parents} <= {
            LIBRARY / "errors.py"
        }, label(path)
    for name in ("page", "notebooks", "style"):
        path = WORKSHOP / f"pages/{name}.py"
        assert "torch" not in {name.partition(".")[0] for name in modules(path)}, label(path)


@cache
def floor(path: Path, above: tuple = ()) -> int:
    """1 for a file that imports none of ours, else one more than the highest that it imports."""
    assert path not in above, f"a circle: {' -> '.join(map(label, (*above, path)))}"
    return 1 + max((floor(other, (*above, path)) for other in imported(path)), default=0)


def test_files_stand_on_few_floors_and_in_no_circle():
    floors = {path: floor(path) for path in FILES}
    for paths, most in ((OF_LIBRARY, 10), (FILES, 14)):
        highest = max(paths, key=floors.__getitem__)
        assert floors[highest] <= most, label(highest)


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_the_whole_can_be_read():
    assert sum(map(lines, OF_LIBRARY)) <= 5400
    assert sum(map(lines, FILES)) - sum(map(lines, OF_LIBRARY)) <= 4795


@pytest.mark.parametrize("path", FILES, ids=label)
def test_files_and_functions_are_short_and_have_few_arguments(path):
    assert lines(path) <= 250
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [
                a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            ]
            assert node.end_lineno - node.lineno < 80, node.name
            assert len([name for name in names if name not in ("self", "cls")]) <= 9, node.name
