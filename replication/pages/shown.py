"""The lines of code that are an equation, taken from the very function that the pipeline runs, so
that they cannot drift.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable


def lines(function: Callable | type) -> str:
    """The source of a function, a method or a class without its docstrings, dedented."""
    source = textwrap.dedent(inspect.getsource(function))
    kept = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or ast.get_docstring(node) is None:
            continue
        text = node.body[0]
        if (
            len(node.body) > 1 and text.end_lineno is not None
        ):  # without it a body of words alone would be empty
            kept[text.lineno - 1 : text.end_lineno] = [""] * (text.end_lineno - text.lineno + 1)
    return "\n".join(line for line in kept if line.strip())


def as_markdown(*functions: Callable | type) -> str:
    """A block of Python for a notebook's page, each function under the name of its module."""
    blocks = [f"# {function.__module__}\n{lines(function)}" for function in functions]
    return "```python\n" + "\n\n".join(blocks) + "\n```"
