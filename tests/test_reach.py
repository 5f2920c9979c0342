"""Which definitions a program reaches, on a small package made for it."""

import ast

import pytest

from nonequilibrium import reach

PACKAGE = {
    "__init__.py": "",
    "base.py": "LIMIT = 3\nUNUSED = 4\n\ndef low():\n    return LIMIT\n\ndef alone():\n    return 1\n",
    "shapes.py": """
        from nonequilibrium import base
        from nonequilibrium.base import low as lowest

        TABLE = {"first": lowest, "second": base.alone}
        TABLE["third"] = base.UNUSED

        class Square:
            def area(self):
                from nonequilibrium.rooms.inner import deep
                return deep()

        class Cube(Square):
            pass

        def by_name(name):
            return TABLE[name]
        """,
    "effects.py": "STATE = []\nSTATE.append(1)\nprint(STATE)\n\ndef quiet():\n    pass\n",
    "offered.py": """
        from nonequilibrium.base import alone as alone
        from nonequilibrium.base import low

        def own():
            return 2
        """,
    "rooms/__init__.py": "",
    "rooms/inner.py": "def deep():\n    return 0\n\ndef other():\n    return 1\n",
}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    folder = tmp_path / "nonequilibrium"
    for name, text in PACKAGE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix("        ") for line in text.splitlines()) + "\n")
    monkeypatch.setattr(reach, "PACKAGE", folder)
    reach.forget()
    yield folder
    reach.forget()


def names(program, **options):
    start = reach.uses(ast.parse(program), reach.read(program))
    return {f"{module}.{name}".removeprefix("nonequilibrium.") for module, name in reach.reached(start, **options)}


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("from nonequilibrium.base import alone", set()),  # named nowhere
        ("from nonequilibrium.base import alone\nalone()", {"base.alone"}),
        ("from nonequilibrium.base import low as l\nl()", {"base.low", "base.LIMIT"}),
        ("from nonequilibrium import base\nbase.low()", {"base.low", "base.LIMIT"}),
        ("import nonequilibrium.base\nnonequilibrium.base.alone()", {"base.alone"}),
        (
            "from nonequilibrium.shapes import lowest\nlowest()",
            {"base.low", "base.LIMIT"},
        ),  # handed on by another module
        ("from nonequilibrium.shapes import Cube\nCube()", {"shapes.Cube", "shapes.Square", "rooms.inner.deep"}),
        ("from nonequilibrium import base\nf(base)", {"base.low", "base.LIMIT", "base.UNUSED", "base.alone"}),
        (
            "from nonequilibrium import offered\nf(offered)",
            {"offered.own", "base.alone"},
        ),  # only what it is there to hand on
        ("from nonequilibrium.effects import quiet\nquiet()", {"effects.quiet", "effects.<import>", "effects.STATE"}),
    ],
)
def test_what_a_program_reaches(program, wanted):
    assert names(program) == wanted


def test_a_table_reaches_all_it_holds_but_the_entries_that_belong_to_others():
    program = "from nonequilibrium.shapes import by_name\nby_name('first')"
    whole = names(program)
    assert whole == {"shapes.by_name", "shapes.TABLE", "base.low", "base.LIMIT", "base.alone", "base.UNUSED"}
    assert names(program, without={"second"}) == whole - {"base.alone"}


def test_nothing_of_a_closed_module_is_followed():
    assert names("from nonequilibrium.shapes import Cube\nCube()", closed={"nonequilibrium.rooms.inner"}) == {
        "shapes.Cube",
        "shapes.Square",
    }


def test_a_definition_s_digest_changes_with_what_it_says_and_with_nothing_else(package):
    start = {("nonequilibrium.base", "low")}
    before = reach.reached(start)
    path = package / "base.py"
    text = path.read_text()
    path.write_text(
        '"""Prose."""\n' + text.replace("return 1", "return 2").replace("def low():", "def low():\n    'Why.'")
    )
    reach.forget()
    assert reach.reached(start) == before
    path.write_text(text.replace("LIMIT = 3", "LIMIT = 5"))
    reach.forget()
    after = reach.reached(start)
    assert {one for one in before if before[one] != after[one]} == {("nonequilibrium.base", "LIMIT")}
