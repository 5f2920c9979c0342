"""What is around the program: how it is set up, where it is run, and how it is called."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

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
    for name in ("Makefile", "requirements.txt", "requirements-test.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".git").touch()
    (folder / "python").write_text(FAKE_PYTHON)
    (folder / "python").chmod(0o755)
    return folder


def make(folder, target=".venv/installed"):
    (folder / "calls").write_text("")
    command = ["make", "PYTHON=./python", target]
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


def test_the_tools_of_tests_are_installed_where_tests_run_alone(scratch):
    assert make(scratch).returncode == 0
    assert "requirements-test.txt" not in (scratch / "calls").read_text()
    assert make(scratch, ".venv/testing").returncode == 0 and not made_anew(scratch)
    assert "requirements-test.txt" in (scratch / "calls").read_text()
    assert make(scratch, ".venv/testing").returncode == 0
    assert "requirements-test.txt" not in (scratch / "calls").read_text()


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
    listed = " ".join(re.findall(r"^(?:COMMANDS|TOOLS) := (.*)", text, re.M))
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
    """ROOT in a process started in ``start`` whose code is in ``package``."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import replication.files as f; print(f.ROOT)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(package)], cwd=start, capture_output=True, text=True
    )
    return result.stdout.strip()


def test_the_root_is_the_code_s_own_checkout_or_where_one_stands(tmp_path):
    site, inside = tmp_path / "site", tmp_path / "checkout/notebooks"
    inside.mkdir(parents=True)
    for name in ("nonequilibrium/__init__", "nonequilibrium/errors", "nonequilibrium/files"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / f"src/{name}.py", site / f"{name}.py")
    (site / "replication").mkdir()
    for name in ("__init__", "files"):
        shutil.copy(ROOT / f"replication/{name}.py", site / "replication")
    assert root_of(site, inside) == str(inside)  # no checkout anywhere: where one stands
    (tmp_path / "checkout/params.yaml").touch()
    assert root_of(site, inside) == str(tmp_path / "checkout")
    (site / "params.yaml").touch()
    assert root_of(site, inside) == str(site)


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
        ([], "command '' is unknown; it must be one of data, train"),
        (["trian"], "command 'trian' is unknown; did you mean 'train'?"),
        (["NOTEBOOK"], "command 'NOTEBOOK' is unknown; did you mean 'notebook'?"),
        (["code", "5"], "unrecognized arguments: 5; --help shows what is understood"),
        (["train", "swiss_roll", "--outputs", "a\0b"], "'a\\x00b' holds a zero byte"),
        (["measure", "restorations", "--spacing"], "restorations has no options but --outputs"),
        (["measure", "heartbeat", "--weihgts", "x"], "unrecognized arguments: --weihgts x"),
        (["notebook"], "the following arguments are required: notebook"),
        (["-x"], "unrecognized arguments: -x"),
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


def apart(folder, *blocked):
    """What ``nonequilibrium`` says in ``folder``, from a copy of the code outside any clone."""
    for name in ("src/nonequilibrium", "replication"):
        shutil.copytree(ROOT / name, folder / Path(name).name, dirs_exist_ok=True)
    program = "import sys; sys.modules |= dict.fromkeys(sys.argv.pop(1).split()); "
    program += "from replication.__main__ import main; raise SystemExit(main())"

    def said(*words):
        command = [sys.executable, "-c", program, " ".join(blocked), *words]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    return said


def test_outside_a_clone_a_command_gets_one_sentence(tmp_path):
    said = apart(tmp_path)
    for command in ("train", "measure", "sample", "inpaint", "data"):
        words = [command, *(["x"] if command in ("train", "measure", "sample", "inpaint") else [])]
        result = said(*words)
        assert result.returncode in (1, 2) and result.stderr.count("\n") == 1, result.stderr
        assert "clone of this project" in result.stderr


def test_a_library_that_is_not_there_is_named_with_its_extra(tmp_path):
    blocked = (
        "pandas matplotlib seaborn skimage sklearn PIL papermill nbformat nbconvert dvc requests"
    )
    said = apart(tmp_path, *blocked.split(), "IPython", "bs4", "jinja2", "filelock", "pooch")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for command in ("data", "train", "code"):
        result = said(command, "--help")
        assert result.returncode == 0 and f"Example: nonequilibrium {command}" in result.stdout
    for words in (["notebook", "--help"], ["inpaint", "x.png"]):
        result = said(*words)
        assert result.returncode == 1 and result.stderr.count("\n") == 1
        assert "pip install 'nonequilibrium[lab]'" in result.stderr
