"""What is around the program: how it is set up, where it is run, and how it is called."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from nonequilibrium.files import quiet
from replication import files
from replication.__main__ import COMMANDS, main
from replication.files import ROOT

# A Python that makes an environment of stubs in no time. If a file says so, its pip is killed with
# make or leaves a command out.
FAKE_PYTHON = r"""#!/bin/sh
echo "$@" >> calls
case "$1 $2" in
"-m venv")
    rm -rf .venv; mkdir -p .venv/bin; cp python .venv/bin/python ;;
"-m pip")
    for name in papermill jupyter pytest ruff mypy nonequilibrium dvc; do
        if test -e kill -a $name = dvc; then kill -9 $PPID; sleep 1; exit 1; fi
        if test -e without -a $name = dvc; then continue; fi
        printf '#!/bin/sh\necho '$name' "$@" >> calls\n' > .venv/bin/$name; chmod +x .venv/bin/$name
    done ;;
esac
"""


@pytest.fixture
def scratch(tmp_path):
    """A folder with a space in its name, with this Makefile and a fake Python."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".git").touch()
    (folder / "python").write_text(FAKE_PYTHON)
    (folder / "python").chmod(0o755)
    return folder


def make(folder):
    (folder / "calls").write_text("")
    command = ["make", "PYTHON=./python", ".venv/installed"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def made_anew(folder):
    return "-m venv --clear .venv" in (folder / "calls").read_text()


def test_an_environment_whose_installation_was_killed_is_made_anew(scratch):
    (scratch / "kill").touch()
    assert make(scratch).returncode == -signal.SIGKILL
    assert not (scratch / ".venv/installed").exists() and (scratch / ".venv/bin/ruff").exists()
    (scratch / "kill").unlink()
    (scratch / ".venv/left over").touch()
    assert make(scratch).returncode == 0 and made_anew(scratch)
    assert (scratch / ".venv/installed").exists() and not (scratch / ".venv/left over").exists()
    assert make(scratch).returncode == 0 and not made_anew(scratch)


def test_an_environment_in_which_a_command_does_not_answer_is_not_marked_whole(scratch):
    (scratch / "without").touch()
    result = make(scratch)
    assert result.returncode and "error: dvc does not answer" in result.stdout
    assert not (scratch / ".venv/installed").exists()
    (scratch / "without").unlink()
    assert make(scratch).returncode == 0 and made_anew(scratch)


def test_an_environment_is_made_anew_when_pins_change_or_it_cannot_work_where_it_is(scratch):
    assert make(scratch).returncode == 0
    later = (scratch / ".venv/installed").stat().st_mtime + 5
    os.utime(scratch / "requirements.txt", (later, later))
    assert make(scratch).returncode == 0 and made_anew(scratch)
    os.utime(scratch / "requirements.txt", (later - 60, later - 60))
    (scratch / ".venv/bin/python").write_text("#!/nowhere/python\n")  # its Python was taken away
    assert make(scratch).returncode == 0 and made_anew(scratch)
    moved = scratch.rename(scratch.with_name("elsewhere"))
    assert make(moved).returncode == 0 and made_anew(moved)


def test_an_unpacked_archive_tells_dvc_that_there_is_no_git(scratch):
    for is_clone in (True, False):
        assert make(scratch).returncode == 0
        assert (
            "dvc config --local core.no_scm true" in (scratch / "calls").read_text()
        ) is not is_clone
        shutil.rmtree(scratch / ".venv")
        (scratch / ".git").unlink(missing_ok=True)


def test_every_command_that_the_makefile_checks_answers():
    """The list in the Makefile has what its recipes and the stages call."""
    text = (ROOT / "Makefile").read_text()
    listed = next(line for line in text.splitlines() if line.startswith("COMMANDS"))
    assert all(
        name in listed
        for name in ("dvc", "papermill", "jupyter", "pytest", "ruff", "mypy", "nonequilibrium")
    )


def test_text_has_the_same_line_ends_in_every_checkout():
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    assert "* text=auto eol=lf" in lines
    kinds = {
        path.suffix
        for folder in ("models", "reports/figures")
        for path in (ROOT / folder).rglob("*")
    }
    for kind in kinds & {".png", ".gif", ".safetensors"}:
        assert f"*{kind} binary" in lines


@pytest.mark.parametrize(
    "word, is_quiet", [("false", False), ("0", False), ("", False), ("No", False), ("true", True)]
)
def test_CI_says_what_it_says(monkeypatch, word, is_quiet):
    monkeypatch.delenv("NONEQUILIBRIUM_QUIET", raising=False)
    monkeypatch.setenv("CI", word)
    assert quiet() is is_quiet


def root_of(package, start):
    """ROOT in a process started in ``start`` whose package is under ``package``."""
    program = "from replication.files import ROOT; print(ROOT)"
    environment = os.environ | {"PYTHONPATH": str(package)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=start, env=environment, capture_output=True, text=True
    )
    return result.stdout.strip()


def test_the_root_is_the_code_s_own_checkout_or_where_one_stands(tmp_path):
    package = tmp_path / "site/lib/nonequilibrium"
    package.mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "files.py"):
        shutil.copy(ROOT / "src/nonequilibrium" / name, package)
    inside = tmp_path / "checkout/notebooks"
    inside.mkdir(parents=True)
    assert root_of(package.parent, inside) == str(inside)  # no checkout anywhere: where one stands
    (tmp_path / "checkout/params.yaml").touch()
    assert root_of(package.parent, inside) == str(tmp_path / "checkout")
    (tmp_path / "site/params.yaml").touch()
    shutil.move(package.parent, tmp_path / "site/src")
    assert root_of(tmp_path / "site/src", inside) == str(tmp_path / "site")


def test_without_git_or_a_clone_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert files.commit() is None  # no git on this machine
    monkeypatch.undo()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(files, "ROOT", tmp_path / "unpacked")
    assert files.commit() is None  # a folder in another project's clone


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "a command is missing; it must be one of data, train"),
        (["trian"], "command 'trian' is unknown; did you mean 'train'?"),
        (["NOTEBOOK"], "command 'NOTEBOOK' is unknown; did you mean 'notebook'?"),
        (["seeds", "5"], "seeds takes no names, but was given '5'"),
        (
            ["measure", "heartbeat", "--weihgts", "x"],
            "'--weihgts' is not understood; did you mean --weights?",
        ),
        (["notebook"], "the following arguments are required: notebook"),
        (["-x"], "'-x' is not understood"),
    ],
)
def test_a_wrong_call_gets_one_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_takes(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and f"Example: nonequilibrium {command}" in capsys.readouterr().out
