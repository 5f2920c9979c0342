"""The package's rooms: who may import whom. A room imports only rooms named before it, so there is
no circle.
"""

import ast

import pytest

from nonequilibrium import _HOME
from replication import reach

ORDER = [
    "ground",
    "diffusion",
    "data",
    "network",
    "bound",
    "adapters",
    "training",
    "experiment",
    "measure",
    "report",
    "command",
]
GROUND = {
    "",
    "errors",
    "evaluation",
    "fields",
    "files",
    "paper",
    "params",
    "processes",
    "values",
}  # single files on which all stand
PAPER = {
    "diffusion",
    "network",
    "bound",
}  # a reader with the paper open finds the equations in these three


def room(module: str) -> str:
    first = module.removeprefix("nonequilibrium").removeprefix(".").partition(".")[0]
    return (
        "ground"
        if first in GROUND
        else "command"
        if first in {"__main__", "code", "reach"}
        else first
    )


def imported(module: str) -> set[str]:
    """What a module imports when it is run; imports for the eyes of a type checker do not count."""
    tree = ast.parse(reach.modules()[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for place, name in reach.read(ast.unparse(tree)).imported.values():
        place, name = (
            (f"nonequilibrium.{_HOME[name]}", "")
            if place == "nonequilibrium" and name in _HOME
            else (place, name)
        )
        found |= {place, f"{place}.{name}"}
    return found & reach.modules().keys() - {module, "nonequilibrium"}


@pytest.mark.parametrize("module", sorted(reach.modules()))
def test_a_module_imports_only_rooms_named_before_its_own(module):
    own = ORDER.index(room(module))
    assert {other for other in imported(module) if ORDER.index(room(other)) > own} == set()


@pytest.mark.parametrize("module", sorted(name for name in reach.modules() if room(name) in PAPER))
def test_the_paper_s_rooms_need_nothing_of_ours_but_each_other(module):
    assert {room(other) for other in imported(module)} <= {"ground"} | PAPER


def test_nothing_depends_on_how_other_people_s_models_are_read():
    assert not [
        name
        for name in reach.modules()
        if room(name) != "adapters" and "adapters" in map(room, imported(name))
    ]


def test_no_modules_import_each_other_in_a_circle():
    left = {name: imported(name) for name in reach.modules()}
    while gone := [name for name, its in left.items() if not its & left.keys()]:
        for name in gone:
            del left[name]
    assert not left, f"in a circle, or above one: {sorted(left)}"


def test_there_are_at_most_six_floors():
    above = {
        name: {
            room(other)
            for module in reach.modules()
            if room(module) == name
            for other in imported(module)
        }
        - {name}
        for name in ORDER
    }
    floor = {}
    for name in ORDER:
        floor[name] = max((floor[other] + 1 for other in above[name]), default=0)
    assert max(floor[name] for name in ORDER if name != "command") <= 5, floor


def test_no_file_is_too_long_to_read_at_a_sitting():
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in reach.modules().items()
    }
    assert max(lengths.values()) <= 260, max(lengths, key=lengths.get)
