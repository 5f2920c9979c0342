"""Bad luck with the disk and with other processes: links, files of the user's own, kills, two at
once, a full disk.
"""

import argparse
import errno
import os
import subprocess
import sys
import threading
import time

import pytest
import yaml
from test_fetch import FILES, SUMS, good_entries, run, server, tar, toy  # noqa: F401

from replication.__main__ import main
from replication.data import archives, download, fetch
from replication.data.fetch import FetchError
from replication.files import ROOT


@pytest.fixture
def mirror(server, toy):  # noqa: F811
    """The folder of a mirror that holds the toy set, by whose address downloads go too."""
    tar(server[0] / "toy.tar.gz", good_entries())
    return server[0]


def whole(folder):
    return {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_data_may_be_a_link_to_another_disk(tmp_path, mirror, monkeypatch):
    real_replace, real_rename = os.replace, os.rename
    other = tmp_path / "other disk"
    other.mkdir()

    def crossing(move):
        def moved(source, target, **more):
            if (str(other) in os.path.realpath(source)) != (
                str(other) in os.path.realpath(os.path.dirname(target))
            ):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return move(source, target, **more)

        return moved

    monkeypatch.setattr(os, "replace", crossing(real_replace))
    monkeypatch.setattr(os, "rename", crossing(real_rename))
    (tmp_path / "data").symlink_to(other, target_is_directory=True)
    assert run(tmp_path, str(mirror)) and whole(other / "toy-batches")
    (tmp_path / "data").unlink()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toy-batches").symlink_to(other / "toy-batches", target_is_directory=True)
    assert run(tmp_path, str(mirror)) is False
    (other / "toy-batches" / "one.bin").write_bytes(b"damaged")
    assert run(tmp_path, str(mirror)) and whole(other / "toy-batches")
    assert (tmp_path / "data" / "toy-batches").is_symlink(), "the link stays"
    assert sorted(p.name for p in (other / "toy-batches").iterdir()) == sorted(FILES)


def test_what_is_the_users_own_stays(tmp_path, mirror):
    folder = tmp_path / "data" / "toy-batches"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "two.bin").write_bytes(FILES["two.bin"])
    before = (folder / "two.bin").stat().st_ino
    kept = tmp_path / "kept.bin"
    kept.write_bytes(b"the user's")
    (folder / "one.bin").symlink_to(kept)
    with pytest.raises(FetchError):
        run(tmp_path, str(tmp_path / "nowhere"))
    assert (folder / "one.bin").is_symlink() and len(list(folder.iterdir())) == 3, "as it was"
    run(tmp_path, str(mirror))
    assert (
        whole(folder)
        and (folder / "notes" / "mine.txt").read_text() == "mine"
        and kept.read_bytes() == b"the user's"
    )
    assert (folder / "two.bin").stat().st_ino == before, "a file that is right is not touched"


@pytest.mark.parametrize("calls", [1, 2])
def test_a_kill_while_files_move_leaves_each_old_or_new(tmp_path, mirror, monkeypatch, calls):
    folder = tmp_path / "data" / "toy-batches"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(b"old")
    real, moved = os.replace, []

    def killed(source, target):
        if len(moved) == calls - 1:
            raise KeyboardInterrupt
        moved.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, str(mirror))
    assert all((folder / name).read_bytes() in (b"old", FILES[name]) for name in FILES)
    monkeypatch.setattr(os, "replace", real)
    assert (
        run(tmp_path, str(mirror)) and whole(folder) and len(list(folder.iterdir())) == len(FILES)
    )


def test_what_killed_runs_left_is_swept(tmp_path, mirror, server):  # noqa: F811
    staging, downloads = tmp_path / "data" / "toy-batches" / ".unfinished", tmp_path / "downloads"
    (downloads / f"toy-batches.{os.getpid()}").mkdir(
        parents=True
    )  # of a former version, with this very process number
    staging.mkdir(parents=True)
    (staging / "one.bin").write_bytes(b"half")
    (downloads / "0123abcd-toy.tar.gz").write_bytes(b"whole but not used")
    (downloads / "0123abcd-toy.tar.xz.part").write_bytes(b"half, of another source")
    (downloads / "mine").write_bytes(b"mine")
    (staging.parent / ".lock").touch()
    assert run(tmp_path, server[1])
    assert [p.name for p in downloads.iterdir()] == ["mine"] and not staging.exists()
    (downloads / "0123abcd-toy.tar.gz.part").write_bytes(b"left, though the set came by other ways")
    staging.mkdir()
    (staging.parent / ".lock").touch()
    assert run(tmp_path, server[1]) is False
    assert sorted(p.name for p in staging.parent.iterdir()) == sorted(FILES)
    assert [p.name for p in downloads.iterdir()] == ["mine"] and not staging.exists()


def test_the_command_sweeps_what_killed_saves_left(tmp_path, mirror, monkeypatch):
    for name in ("PARTIAL", "RECORDS", "DATA"):
        monkeypatch.setattr(fetch, name, tmp_path / "checkpoints" / name)
    monkeypatch.setenv("NONEQUILIBRIUM_MIRROR", str(mirror))
    old, young = (tmp_path / "checkpoints" / f".run.pt.{digit * 12}.tmp" for digit in "01")
    old.parent.mkdir()
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    fetch.run(argparse.Namespace(names=[], record=True))
    assert not old.exists() and young.exists(), "a save that is going on keeps its file"


def test_two_at_once_over_http(tmp_path, mirror, server, monkeypatch):  # noqa: F811
    _, address, handler = server
    plain, outcomes = handler.do_GET, []

    def slowly(self):
        time.sleep(0.2)
        plain(self)

    monkeypatch.setattr(handler, "do_GET", slowly)
    threads = [
        threading.Thread(target=lambda: outcomes.append(run(tmp_path, address))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == [False, False, True] and len(handler.requests) == 1
    assert (
        whole(tmp_path / "data" / "toy-batches")
        and len(list((tmp_path / "data" / "toy-batches").iterdir())) == 2
    )
    assert not list((tmp_path / "downloads").iterdir())


def test_a_resumed_download_of_another_file_is_begun_again(tmp_path, mirror, server):  # noqa: F811
    _, address, _ = server
    part = download.part_path(address + "toy.tar.gz", tmp_path / "downloads")
    part.parent.mkdir()
    part.write_bytes(b"0" * 500)
    assert run(tmp_path, address) and whole(tmp_path / "data" / "toy-batches")


def test_the_next_source_is_tried_whatever_the_first_is(tmp_path, mirror, server, toy, monkeypatch):  # noqa: F811
    bad = (
        "http://[::1/",
        "http://a..b/",
        "nothing/",
        "file:///etc/",
        "http://127.0.0.1:port/",
        server[1],
    )
    monkeypatch.setitem(
        fetch.DATA_SETS, "toy", fetch.DataSet("toy-batches", SUMS, toy.archives, bad, ("{}",))
    )
    assert run(tmp_path) and whole(tmp_path / "data" / "toy-batches")


@pytest.mark.parametrize(
    "place", ["data", "data/toy-batches", "downloads", "data/toy-batches/one.bin"]
)
def test_something_stands_in_the_way(tmp_path, mirror, place):
    obstacle = tmp_path / place
    obstacle.parent.mkdir(exist_ok=True, parents=True)
    if place.endswith(".bin"):
        obstacle.mkdir()
    else:
        obstacle.write_text("a file of the user's")
    with pytest.raises(FetchError, match="is a (file|folder).* move it away"):
        run(tmp_path, str(mirror))
    assert obstacle.exists()
    if not place.endswith(".bin"):
        obstacle.unlink()
        obstacle.symlink_to(tmp_path / "unmounted")
        with pytest.raises(FetchError, match="a link that leads nowhere; move it away"):
            run(tmp_path, str(mirror))
        assert obstacle.is_symlink() and not (tmp_path / "unmounted").exists()


def test_reports_is_a_file(tmp_path, mirror, monkeypatch, capsys):
    (tmp_path / "reports").write_text("a file")
    monkeypatch.setattr(fetch, "RECORDS", tmp_path / "reports" / "data")
    monkeypatch.setattr(fetch, "fetch", lambda *_, **__: pytest.fail("no work before the check"))
    assert main(["data", "mnist", "--record"]) == 1
    assert "reports is a file; move it away" in capsys.readouterr().err


@pytest.mark.parametrize("by_address", [True, False])
def test_a_disk_that_fills_up_at_any_write(tmp_path, mirror, server, monkeypatch, by_address):  # noqa: F811
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in (
        (download, "_write"),
        (archives.shutil, "copyfileobj"),
        (fetch.os, "replace"),
        (fetch.Path, "mkdir"),
    ):
        if name == "_write" and not by_address:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(FetchError, match="toy: the disk is full; make room"):
                run(tmp_path, server[1] if by_address else str(mirror))
        assert not (tmp_path / "data").exists()


def test_bombs_are_not_written_out(tmp_path, mirror, toy, monkeypatch):  # noqa: F811
    sizes = {name: len(content) for name, content in FILES.items()}
    bounded = fetch.DataSet("toy-batches", SUMS, toy.archives, toy.upstream, toy.mirror, sizes)
    monkeypatch.setitem(fetch.DATA_SETS, "toy", bounded)
    assert bounded.most(SUMS) < 12 << 20
    for entries, said in (
        ([("one.bin", bytes(20 << 20))], "one.bin has 20,971,520 bytes, not 512,000"),
        ([("other", bytes(20 << 20)), *good_entries()], "unpacks to more than"),
        ([("one.bin", b"short")], "one.bin has 5 bytes"),
    ):
        tar(mirror / "toy.tar.gz", entries)
        with pytest.raises(FetchError, match=said):
            run(tmp_path, str(mirror))
        assert not (tmp_path / "data").exists()


def test_a_mirror_that_cannot_be_read(tmp_path, mirror, monkeypatch):
    real = fetch.Path.open

    def refused(path, mode="r", *more):
        if path.name.startswith("toy.tar"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, mode, *more)

    monkeypatch.setattr(fetch.Path, "open", refused)
    with pytest.raises(FetchError, match=r"cannot be read \(Permission denied\)"):
        run(tmp_path, str(mirror))


def test_the_pipeline_tries_again_what_failed():
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["fetch"]["do"]
    assert stage["always_changed"] is True
    assert stage["deps"] == [".code/data.txt"]


def test_a_machine_that_only_trains_can_import_it():
    code = "import sys; sys.modules |= dict.fromkeys(['requests', 'filelock', 'psutil']); import nonequilibrium.data.images as i; "
    code += "import replication.data.fetch; i.present('digits')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
