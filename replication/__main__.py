"""One command, ``nonequilibrium`` or ``python -m replication``: what it is asked to do comes first.

Exit status: 0 done, 1 failed, 2 wrong use. Whatever a user can mend is said in one sentence on
standard error.
"""

from __future__ import annotations

import argparse
import importlib
import io
import re
import sys

from nonequilibrium.errors import Refusal, one_line
from replication.settings.fields import check_name, nearest
from replication.settings.values import shown

# name: (where its function is, what it does, an example); the function's words are read by
# <function>_arguments beside it
COMMANDS = {
    "data": ("data.fetch:run", "fetch and verify the image data sets", "data mnist"),
    "train": (
        "training.train:run",
        "train an experiment and write its weights",
        "train cifar10 -p train_steps=500",
    ),
    "measure": (
        "pages.stages:measure",
        "measure trained weights on held-out data",
        "measure heartbeat",
    ),
    "sample": (
        "measure.spacing:sample",
        "draw true samples of an image model",
        "sample cifar10 --out samples.png",
    ),
    "spacing": (
        "measure.spacing:run",
        "measure which steps a thinned chain of an image model keeps",
        "spacing cifar10",
    ),
    "inpaint": (
        "restoration.inpaint:run",
        "fill in a part of your own picture",
        "inpaint picture.png --mask centre --out filled.png",
    ),
    "restorations": (
        "restoration.restorations:run",
        "measure posteriors on images, two and a half hours on one core",
        "restorations",
    ),
    "mcgsm": (
        "measure.mixture:run",
        "train the MCGSM beside which dead leaves are measured",
        "mcgsm",
    ),
    "choices": (
        "measure.choices:run",
        "measure what each choice of an image experiment is worth",
        "choices cifar10",
    ),
    "seeds": ("measure.seeds:run", "train and measure each toy from several seeds", "seeds"),
    "notebook": (
        "pages.notebooks:run",
        "run a notebook with parameters",
        "notebook 01_swiss_roll -p seed=1",
    ),
    "report": (
        "pages.stages:report",
        "draw figures and write pages again from what was measured",
        "report",
    ),
    "readme": ("pages.readme:run", "write the result tables at the top of README.md", "readme"),
    "code": (
        "stale:run",
        "write digests of the code that each stage needs, for the pipeline",
        "code",
    ),
}


class _Usage(Refusal):
    """Words that the command does not take."""

    status = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are raised, to be said in one sentence like every other."""

    def error(self, message: str):
        raise _Usage(message)


def _parse(arguments: list[str]) -> argparse.Namespace:
    """What ``arguments`` ask for. Raises Refusal, with a suggestion where a word is nearly right."""
    parser = _Parser(
        prog="nonequilibrium",
        description="The first diffusion model, replicated: data, training, measuring, samples.",
        epilog="`nonequilibrium COMMAND --help` says more and shows an example.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, purpose, example) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            epilog=f"Example: nonequilibrium {example}",
        )
        if arguments[:1] == [
            name
        ]:  # the others' modules are not even imported, so that --help is quick
            _function(name, "arguments")(command)
    if not arguments:
        raise _Usage(f"a command is missing; it must be one of {', '.join(COMMANDS)}")
    if not arguments[0].startswith("-"):
        check_name("command", arguments[0], COMMANDS)
    options, rest = parser.parse_known_args(arguments)
    if rest:
        command = commands.choices.get(options.command, parser)
        near = nearest(rest[0], re.findall(r"(?<![\w-])--?\w[\w-]*", command.format_help()))
        hint = f"; did you mean {near}?" if near else f"; `{command.prog} --help` shows what is"
        raise _Usage(f"{shown(rest[0])} is not understood{hint}")
    return options


def _function(command: str, its: str | None = None):
    """What runs ``command``, or what reads its words."""
    module, _, function = COMMANDS[command][0].partition(":")
    name = function if its is None else its if function == "run" else f"{function}_{its}"
    return getattr(importlib.import_module(f"replication.{module}"), name)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: those of the process) name; returns the exit
    status.
    """
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        _function(options.command)(options)
    except Refusal as error:
        return _say(error, error.status)
    except (OSError, MemoryError) as error:
        return _say(error, 1)
    except RuntimeError as error:
        if "allocate" not in str(error) and "out of memory" not in str(error):
            raise
        return _say(error, 1)  # PyTorch's word for too little memory
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


def _say(error: BaseException, status: int) -> int:
    """Print ``error`` as one sentence; returns ``status``."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return status


def entry() -> None:
    """The installed command."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no β shows a stand-in
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
