"""One command, ``nonequilibrium`` or ``python -m replication``.

Exit status: 0 done, 1 failed, 2 wrong use. Whatever a user can mend is one sentence on standard
error.
"""

from __future__ import annotations

import argparse
import importlib
import io
import re
import sys

from nonequilibrium.errors import Refusal, one_line
from replication.files import ROOT
from replication.settings.fields import check_name, nearest, shown

# name: the module with its ``arguments`` and ``run``, what it does, an example
COMMANDS = {
    "data": ("data.fetch", "fetch and verify the image data sets", "data mnist"),
    "train": (
        "training.train",
        "train an experiment, or mcgsm, and write its weights",
        "train cifar10 -p train_steps=500",
    ),
    "measure": (
        "commands.measure",
        "measure an experiment's trained weights, or restorations",
        "measure heartbeat",
    ),
    "bits": ("commands.bits", "bits/dim of any diffusion model", "bits cifar10 --images cifar10"),
    "sample": ("measure.sample", "draw samples of an image model", "sample cifar10 --number 40"),
    "inpaint": ("restoration.inpaint", "fill in a part of your own picture", "inpaint cat.png"),
    "notebook": ("pages.notebooks", "run a notebook", "notebook 01_swiss_roll -p seed=1"),
    "report": ("commands.report", "draw every figure and page again", "report"),
    "code": ("stale", "write what each stage of the pipeline depends on", "code"),
}
HIDDEN = "code"  # the pipeline's own
EXTRAS = {"bm3d": "measure", "cv2": "measure"}  # what is not there is in the extra ``lab``


class Usage(Refusal):
    """Words that the command does not take."""

    status = 2


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are raised, to be said in one sentence like every other."""

    def error(self, message: str):
        raise Usage(message)


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults, where there are any."""

    def _get_help_string(self, action):
        told = "default" in action.help or action.default in (None, [])
        return action.help if told or action.nargs == 0 else super()._get_help_string(action)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """What ``arguments`` ask for; raises Refusal, with a suggestion for a word nearly right.

    Only the module of the command that is asked for is imported, so that --help is quick.
    """
    purpose = "The first diffusion model, replicated: data, training, measuring, samples."
    more = "`nonequilibrium COMMAND --help` says more and shows an example."
    parser = Parser(prog="nonequilibrium", description=purpose, epilog=more)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, does, example) in COMMANDS.items():
        about: dict = {} if name == HIDDEN else {"help": does}
        command = commands.add_parser(name, formatter_class=Help, **about)
        command.description = f"{does[0].upper()}{does[1:]}."
        command.epilog = f"Example: nonequilibrium {example}"
        if arguments[:1] == [name]:
            try:
                words = importlib.import_module(f"replication.{module}")
                getattr(words, "arguments", lambda _: None)(command)
            except ImportError as error:
                if not {"-h", "--help"} & {*arguments}:
                    raise
                command.epilog += f". Its options are not shown, as {missing(error)}"
    known = ", ".join(name for name in COMMANDS if name != HIDDEN)
    if not arguments:
        raise Usage(f"a command is missing; it must be one of {known}")
    if not arguments[0].startswith("-"):
        check_name("command", arguments[0], COMMANDS)
    options, rest = parser.parse_known_args(arguments)
    if rest:
        command = commands.choices.get(options.command, parser)
        near = nearest(rest[0], re.findall(r"(?<![\w-])--?\w[\w-]*", command.format_help()))
        hint = f"did you mean {near}?" if near else f"`{command.prog} --help` shows what is"
        raise Usage(f"{shown(rest[0])} is not understood; {hint}")
    return options


def missing(error: ImportError) -> str:
    """What to install for a library that is not there; raises ``error`` if it is ours."""
    extra = EXTRAS.get(name := (error.name or "").partition(".")[0], "lab")
    if name in ("", "nonequilibrium", "replication"):
        raise error
    return f"{name} is not installed; `pip install 'nonequilibrium[{extra}]'` installs it"


def main(arguments: list[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: those of the process) name; returns the exit
    status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if broken := next((word for word in arguments if "\0" in word), None):
            raise Usage(f"{shown(broken)} holds a zero byte")
        options = parsed(arguments)
        if not (ROOT / "params.yaml").exists():
            raise Refusal(f"{ROOT} is not in a clone of this project, where the commands work")
        importlib.import_module(f"replication.{COMMANDS[options.command][0]}").run(options)
    except Refusal as error:
        return said(one_line(error), error.status)
    except (OSError, MemoryError) as error:
        return said(one_line(error), 1)
    except ImportError as error:
        return said(f"{arguments[0]}: {missing(error)}", 1)
    except RuntimeError as error:
        if "allocate" not in str(error) and "out of memory" not in str(error):
            raise
        return said(one_line(error), 1)  # PyTorch's word for too little memory
    except KeyboardInterrupt:
        return said("interrupted", 130)
    return 0


def said(sentence: str, status: int) -> int:
    """Print what went wrong; returns ``status``."""
    print(f"error: {sentence}", file=sys.stderr)
    return status


def entry() -> None:
    """The installed command."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no β shows a stand-in
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
