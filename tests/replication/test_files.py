"""Atomic writes, leftovers, and digests of code."""

import errno
import os
import time
from pathlib import Path

import pytest

from nonequilibrium.files import save_atomically, save_together, sweep
from replication.files import OutputError, check_writable, code_digest


def test_atomic_saving_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_atomically(path, fail)
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
        save_atomically(tmp_path / "a", replaced)
        save_atomically(tmp_path / "b", lambda temporary: temporary.write_text("b"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_two_processes_of_one_number_have_temporaries_of_their_own(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary)
        temporary.write_text("outer")
        if len(seen) == 1:
            save_atomically(tmp_path / "file", write)

    save_atomically(tmp_path / "file", write)
    assert len(set(seen)) == 2 and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_killed_runs_are_swept_and_nothing_else(tmp_path):
    class Killed(BaseException):
        pass

    names = []

    def write(temporary):
        names.append(temporary.name)

    save_atomically(tmp_path / "run.pt", write)
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
    save_atomically(tmp_path / "new", write)
    assert not young.exists(), "saving sweeps the folder that it saves to"
    assert sweep(tmp_path / "absent") == []


def test_a_place_where_nothing_can_be_written_is_found_out_before_the_work(tmp_path):
    check_writable(tmp_path / "models" / "a")
    assert list((tmp_path / "models").iterdir()) == []
    (tmp_path / "reports").write_text("a file")
    (tmp_path / "folder").mkdir()
    for path in (
        tmp_path / "reports" / "plots" / "a.csv",
        tmp_path / "folder",
        Path("/proc/none/a"),
    ):
        with pytest.raises(OutputError, match=f"{path} cannot be written: .+"):
            check_writable(path)


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
def test_the_digest_of_code_is_of_what_it_does(tmp_path, old, new, same):
    file = tmp_path / "code.py"
    file.write_bytes(CODE)
    before = code_digest([file])
    assert old in CODE
    file.write_bytes(CODE.replace(old, new))
    assert (code_digest([file]) == before) is same


def test_the_digest_of_folders_depends_on_names_inside_but_not_on_order_or_place(tmp_path):
    def tree(root, name="a.py"):
        for room in ("one", "two"):
            (root / room / "inner").mkdir(parents=True)
            (root / room / "inner" / name).write_text(f"x = {room!r}")
            (root / room / "notes.txt").write_text(str(root))
        (root / "alone.py").write_text("y = 1")
        return [root / "one", root / "two", root / "alone.py"]

    first = tree(tmp_path / "here")
    digest = code_digest(first)
    assert code_digest(tree(tmp_path / "there")) == code_digest(reversed(first)) == digest
    assert code_digest(tree(tmp_path / "renamed", "b.py")) != digest
    assert code_digest(first[:2]) != digest
    (first[0] / "more.py").write_text("this is not Python")
    broken = code_digest(first)
    (first[0] / "more.py").write_text("nor is this, at all")
    assert len({digest, broken, code_digest(first)}) == 3
