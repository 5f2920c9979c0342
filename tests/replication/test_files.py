"""Atomic writes, leftovers, places that can be written, and digests of code."""

import errno
import os
import resource
import time
from pathlib import Path

import pytest

from nonequilibrium.errors import ParameterError
from nonequilibrium.files import save_together, sweep
from replication.files import OutputError, check_writable, folder_for
from replication.stale import read


def test_atomic_saving_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_together({path: fail})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_appear_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        save_together({first: lambda path: path.write_text("new"), second: full})
    assert first.read_text() == "old" and list(tmp_path.iterdir()) == [first]
    save_together(
        {first: lambda path: path.write_text("new"), second: lambda path: path.write_text("new")}
    )
    assert first.read_text() == second.read_text() == "new"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_umask_gives_the_mode_whatever_the_writer_made(tmp_path, umask):
    def replaced(temporary):  # what some libraries do: a private file of their own, renamed
        own = temporary.with_name("own")
        own.touch(0o600)
        own.rename(temporary)

    before = os.umask(umask)
    try:
        save_together({tmp_path / "a": replaced})
        save_together({tmp_path / "b": lambda temporary: temporary.write_text("b")})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_two_processes_of_one_number_have_temporaries_of_their_own(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary)
        temporary.write_text("outer")
        if len(seen) == 1:
            save_together({tmp_path / "file": write})

    save_together({tmp_path / "file": write})
    assert len(set(seen)) == 2 and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_killed_runs_are_swept_and_nothing_else(tmp_path):
    class Killed(BaseException):
        pass

    names = []

    def write(temporary):
        names.append(temporary.name)

    save_together({tmp_path / "run.pt": write})
    old = time.time() - 2 * 24 * 3600
    ours = tmp_path / names[0]
    keep = [
        tmp_path / name
        for name in (".run.pt.1234", ".hidden.tmp", "run.pt.0123456789ab.tmp", "run.pt")
    ]
    for path in (ours, *keep):
        path.write_text("")
        os.utime(path, (old, old))
    young = tmp_path / ".other.pt.0123456789ab.tmp"
    young.write_text("")
    assert sweep(tmp_path) == [ours]
    assert sorted(tmp_path.iterdir()) == sorted([*keep, young])
    os.utime(young, (old, old))
    save_together({tmp_path / "new": write})
    assert not young.exists(), "saving sweeps the folder that it saves to"
    assert sweep(tmp_path / "absent") == []


def test_a_place_where_nothing_can_be_written_is_found_out_before_the_work(tmp_path):
    check_writable(tmp_path / "models" / "a")
    assert folder_for(tmp_path / "new") == tmp_path / "new" and not list(tmp_path.iterdir())
    (tmp_path / "reports").write_text("a file")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "reports" / "plots" / "a.csv", tmp_path / "folder", Path("/proc/no/a")):
        with pytest.raises(OutputError, match=f"{path} cannot be written: .+"):
            check_writable(path)
    for outputs in (5, "", "~no_such_user/x", "a\0b"):
        with pytest.raises(ParameterError, match="outputs is .*; it must be a folder"):
            folder_for(outputs)
    assert folder_for(None) is None


CODE = b'''"""Doc."""
X = """two
lines"""


class A:
    """Doc."""

    def f(self, x: int = 1) -> int:
        """Doc."""
        return x + 1  # why
'''


@pytest.mark.parametrize(
    "old, new, same",
    [
        (b"  # why", b"", True),
        (b"# why", b"# because", True),
        (b'"""Doc."""', b'"""Another\n\n    text."""', True),
        (b'    """Doc."""\n\n', b"", True),
        (b"x + 1", b"(x +\n            1)", True),
        (b"x: int = 1", b"x:int=1", True),
        (b"\n", b"\r\n", True),
        (b"x + 1", b"x + 2", False),
        (b"x + 1", b"1 + x", False),
        (b"= 1", b"= 1.0", False),
        (b"two\n", b"two\n ", False),
        (b"def f", b"async def f", False),
        (b"class A", b"class A(int)", False),
    ],
)
def test_the_digest_of_code_is_of_what_it_does(old, new, same):
    assert old in CODE
    assert (read(CODE)[0] == read(CODE.replace(old, new))[0]) is same


def test_a_place_without_room_is_refused_before_the_work(tmp_path):
    """The limit on a file's size stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="x.json cannot be written: File too large"):
            check_writable(tmp_path / "x.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_writable(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []
