"""The command ``nonequilibrium``. Its exit status: 0 if done, 1 if failed, 2 if used wrongly."""

import argparse
import io
import signal
import sys
from importlib import import_module

from nonequilibrium.errors import ParameterError, Refusal, one_line
from replication.files import ROOT
from replication.settings.fields import check_name, shown

# name: the module with its ``arguments`` and ``run``, what it does, an example
COMMANDS = {
    "data": ("data.fetch", "fetch and verify the image data sets", "data mnist"),
    "train": ("training.train", "train an experiment, or mcgsm", "train bark -p train_steps=500"),
    "measure": ("commands.measure", "measure trained weights, or restorations", "measure bark"),
    "bits": ("commands.bits", "bits/dim of any diffusion model", "bits cifar10 --images cifar10"),
    "sample": ("measure.sample", "draw samples of an image model", "sample cifar10 --number 40"),
    "inpaint": ("restoration.inpaint", "fill in a part of your own picture", "inpaint cat.png"),
    "notebook": ("pages.notebooks", "run a notebook", "notebook 01_swiss_roll -p seed=1"),
    "code": ("stale", "write what each stage of the pipeline depends on", "code"),
}
EXTRAS = {"bm3d": "measure", "cv2": "measure"}  # every other library comes with lab


class Parser(argparse.ArgumentParser):
    """A parser that raises its complaints, so that a user reads one sentence as everywhere."""

    def error(self, message: str):
        raise ParameterError(f"{message}; --help shows what is understood")


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows each default, where there is one."""

    def _get_help_string(self, action):
        plain = action.nargs == 0 or action.default in (None, []) or "default" in action.help
        return action.help if plain else super()._get_help_string(action)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options that ``arguments`` give; raises Refusal."""
    if not (word := next(iter(arguments), "")).startswith("-"):
        check_name("command", word, COMMANDS)
    purpose = "The first diffusion model, replicated: data, training, measuring, samples."
    more = "`nonequilibrium COMMAND --help` says more and shows an example."
    parser = Parser(prog="nonequilibrium", description=purpose, epilog=more)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, does, example) in COMMANDS.items():
        about: dict = {} if name == "code" else {"help": does}  # which is the pipeline's own
        command = commands.add_parser(name, formatter_class=Help, **about)
        command.description = f"{does[0].upper()}{does[1:]}."
        command.epilog = f"Example: nonequilibrium {example}"
        if name == word:  # the only module to import, so that --help is quick
            getattr(import_module(f"replication.{module}"), "arguments", vars)(command)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that ``arguments`` (of the process, by default) name: the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    status = 1
    try:
        if broken := next((word for word in arguments if "\0" in word), None):
            raise ParameterError(f"{shown(broken)} holds a zero byte")
        options = parsed(arguments)
        if not (ROOT / "params.yaml").exists():
            raise Refusal(f"{ROOT} is not in a clone of this project, where the commands work")
        import_module(f"replication.{COMMANDS[options.command][0]}").run(options)
        return 0
    except Refusal as error:
        message, status = one_line(error), error.status
    except (OSError, MemoryError) as error:
        message = one_line(error)
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "nonequilibrium", "replication"):
            raise
        install = f"pip install 'nonequilibrium[{EXTRAS.get(name, 'lab')}]'"
        message = f"{arguments[0]}: {name} is not installed; `{install}` installs it"
    except RuntimeError as error:  # PyTorch's word for too little memory
        if "allocate" not in str(error) and "out of memory" not in str(error):
            raise
        message = one_line(error)
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    print(f"error: {message}", file=sys.stderr)
    return status


def entry() -> None:
    """The installed command."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no β shows a stand-in
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    ending = {"SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"} & {*dir(signal)}
    for name in ending:  # as Ctrl-C does, tidily
        number = getattr(signal, name)
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
