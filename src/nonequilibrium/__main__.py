"""One command, ``nonequilibrium`` or ``python -m nonequilibrium``: what it is asked to do comes first.

Exit status: 0 done, 1 failed, 2 wrong use. Whatever a user can mend is said in one sentence on standard error.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from nonequilibrium.errors import Refusal, one_line

# name: (module with ``arguments(parser)`` and ``run(options)``, what it does, an example)
COMMANDS = {
    "data": ("data.fetch", "fetch and verify the image data sets", "data mnist"),
    "train": ("experiment.train", "train an experiment and write its weights", "train cifar10_cpu -p train_steps=500"),
    "notebook": ("report.notebooks", "run a notebook with parameters", "notebook 01_swiss_roll -p seed=1"),
    "inpaint": (
        "measure.inpaint",
        "fill in a part of your own picture",
        "inpaint picture.png --mask centre --out filled.png",
    ),
    "choices": ("measure.choices", "measure what each choice of an image experiment is worth", "choices cifar10_cpu"),
    "seeds": ("measure.seeds", "train and measure each toy from several seeds", "seeds"),
    "code": ("code", "write digests of the code that each stage needs, for the pipeline", "code"),
    "readme": ("report.readme", "write the result tables at the top of README.md", "readme"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: those of the process) name; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="nonequilibrium",
        description="The first diffusion model, replicated: data, training, measuring, samples.",
        epilog="`nonequilibrium COMMAND --help` says more and shows an example.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, purpose, example) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            epilog=f"Example: nonequilibrium {example}",
        )
        if arguments[:1] == [name]:  # the others' modules are not even imported, so that --help is quick
            importlib.import_module(f"nonequilibrium.{module}").arguments(command)
    options = parser.parse_args(arguments)
    try:
        importlib.import_module(f"nonequilibrium.{COMMANDS[options.command][0]}").run(options)
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


def entry() -> None:
    """The installed command."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
