"""Which definitions of the package a program can reach, and what each of them says.

A definition is a function, a class or a constant at the top of a module. It reaches what it names: a name that its module defines or
imports, or an attribute of a module that it names. A module that is named without an attribute is reached whole, with what it hands on
(``import name as name``); a class always is.
This is more than what runs, never less: the package finds nothing by a text, but for what ``code`` adds from the register.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nonequilibrium import _HOME
from nonequilibrium.files import PACKAGE, tree_digest

Definition = tuple[str, str]  # (module, name)
AT_IMPORT = "<import>"  # stands for the statements of a module that define no name


@dataclass(frozen=True)
class Module:
    """A module as it is read: its definitions, and what its imported names stand for, (module, name) or (module, "").

    handed_on: those of the imported names that are there for other modules, ``import name as name``.
    """

    definitions: dict[str, list[ast.stmt]]
    imported: dict[str, Definition]
    handed_on: frozenset[str]


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package: {dotted name: file}."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def read(source: str) -> Module:
    """A program's definitions and imports; imports inside functions count like those at the top."""
    tree = ast.parse(source)
    imported: dict[str, Definition] = {}
    handed_on: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            handed_on |= {alias.name for alias in node.names if alias.asname == alias.name}
        if isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name.split(".")[0]: _whole(alias) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    definitions: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _defines(node):
            definitions.setdefault(name, []).append(node)
    return Module(definitions, imported, frozenset(handed_on))


def _whole(alias: ast.alias) -> Definition:
    return (alias.name if alias.asname else alias.name.split(".")[0]), ""


def _defines(node: ast.stmt) -> list[str]:
    """Names that a statement at the top of a module defines or changes."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = [n.id for target in targets if target is not None for n in ast.walk(target) if isinstance(n, ast.Name)]
    is_prose = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    only_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return [] if is_prose or only_types else names or [AT_IMPORT]


@functools.cache
def _module(name: str) -> Module:
    return read(modules()[name].read_text(encoding="utf-8"))


def forget() -> None:
    """Read the package anew the next time: its files have changed."""
    modules.cache_clear()
    _module.cache_clear()


def meant(module: str, name: str) -> Iterator[Definition]:
    """The definitions that ``module.name`` stands for; all of a module where it is one."""
    whole = f"{module}.{name}" if name else module
    if whole in modules():
        yield from ((whole, each) for each in _module(whole).definitions)
        for each in sorted(_module(whole).handed_on):
            yield from _named(_module(whole), whole, each)
    elif module == "nonequilibrium" and name in _HOME:
        yield from meant(f"nonequilibrium.{_HOME[name]}", name)
    elif module in modules():
        yield from _named(_module(module), module, name)


def _named(within: Module, module: str, name: str) -> Iterator[Definition]:
    if name in within.definitions:
        yield module, name
    elif name in within.imported:
        yield from meant(*within.imported[name])


def uses(node: ast.AST, within: Module, module: str = "") -> Iterator[Definition]:
    """The definitions that a piece of the program ``within`` names."""
    if isinstance(node, ast.Attribute):
        base = _as_module(node.value, within)
        if base is not None:
            yield from meant(base, node.attr)
            return
    if isinstance(node, ast.Name):
        yield from _named(within, module, node.id)
    for child in ast.iter_child_nodes(node):
        yield from uses(child, within, module)


def _as_module(node: ast.AST, within: Module) -> str | None:
    """The package's module that an expression names, if it names one."""
    if isinstance(node, ast.Name) and node.id in within.imported:
        name = ".".join(filter(None, within.imported[node.id]))
    elif isinstance(node, ast.Attribute):
        name = f"{_as_module(node.value, within)}.{node.attr}"
    else:
        return None
    return name if name in modules() else None


def reached(
    start: Iterable[Definition], closed: Iterable[str] = (), without: Iterable[str] = ()
) -> dict[Definition, str]:
    """Every definition that those of ``start`` can reach, themselves included, with its digest.

    closed: modules of which nothing is followed or listed. without: keys that belong to other experiments; what a table with such
    keys has under them is left out.
    """
    closed, without = frozenset(closed), frozenset(without)
    found: dict[Definition, str] = {}
    new = set(start)
    while new:
        module, name = one = new.pop()
        if one in found or module in closed:
            continue
        nodes = [_entries(node, without) for node in _module(module).definitions[name]]
        found[one] = tree_digest(nodes)
        new.update(use for node in nodes for use in uses(node, _module(module), module))
        if AT_IMPORT in _module(module).definitions:
            new.add((module, AT_IMPORT))
    return found


def _entries(node: ast.stmt, without: frozenset[str]) -> ast.stmt:
    """A definition, or, if it is a table by names, the same table without the entries of ``without``."""
    table = getattr(node, "value", None)
    if not (isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(table, ast.Dict) and without):
        return node
    kept = [
        (key, value)
        for key, value in zip(table.keys, table.values, strict=True)
        if not (isinstance(key, ast.Constant) and key.value in without)
    ]
    smaller = ast.Dict([key for key, _ in kept], [value for _, value in kept])
    if isinstance(node, ast.Assign):
        return ast.Assign(node.targets, smaller)
    return ast.AnnAssign(node.target, node.annotation, smaller, node.simple)
