"""Values as people write them, in params.yaml and after ``-p``: numbers in any usual notation, a
sentence for what is no value.
"""

from __future__ import annotations

import math
import re
import reprlib

import yaml

_NUMBER = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)([eE][-+]?\d+)?", re.ASCII)
_BASED = re.compile(r"[-+]?0[xo][\da-fA-F]+", re.ASCII)
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 60, 60


def as_number(text: str) -> int | float | None:
    """The number that ``text`` is (``1e-5``, ``1E5``, ``.5``, ``+3``, ``1_000``, ``0100``,
    ``0x1f``), None if it is none.
    """
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    kinds = (
        (lambda word: int(word, 0),)
        if _BASED.fullmatch(text)
        else (int, float)
        if _NUMBER.fullmatch(text)
        else ()
    )
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:  # not whole, two underscores together, or more digits than Python turns into a whole number
            continue
    return None


def as_flag(text: str) -> bool | None:
    """True or false where ``text`` says so (``yes``, ``off``, ``TRUE``), None if it does not."""
    return _WORDS.get(text.strip().lower())


def shown(value) -> str:
    """``repr(value)`` cut to what a sentence bears, whatever its size."""
    try:
        return " ".join(_short.repr(value).split())
    except ValueError:  # thousands of digits, which Python does not write out
        return "a whole number of thousands of digits"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values in place of 1.1's, in which 1e-05 is text, 0100 is 64, 2:08 is 128
    and ``no`` is false.

    DVC reads 1.2 as well. A name that stands twice in a mapping is refused.
    """

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise ValueError(
                        f"has the name {shown(key.value)} twice, again in line {key.start_mark.line + 1}"
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node):
        number = as_number(self.construct_scalar(node))
        return node.value if number is None or math.isinf(number) else number


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_implicit_resolver(
    "!number",
    re.compile(f"^({_NUMBER.pattern}|{_BASED.pattern})$", re.ASCII),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"), list("-+.")
)
_Loader.add_constructor("!number", _Loader.construct_number)


def read_yaml(text: str | bytes):
    """The value that YAML ``text`` stands for. Raises ValueError with the rest of a sentence that
    begins with what was read.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        if isinstance(text, bytes) and error.encoding not in (None, "unicode"):
            raise ValueError("is not text in UTF-8") from None
        raise ValueError(f"is not YAML: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"is not YAML: {' '.join(str(error.problem).split())}{where}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (
        Exception
    ) as error:  # the reader's own constructors fail in many ways, for instance at !!timestamp x
        said = str(error).startswith("has the name")
        raise ValueError(
            str(error) if said else f"is not YAML: {' '.join(str(error).split())}"
        ) from None
