"""Every route of `make data` and every way it can fail, against a local HTTP server and small
stand-ins of the archives.
"""

import dataclasses
import errno
import gzip
import hashlib
import io
import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nonequilibrium.errors import ParameterError
from replication.__main__ import main
from replication.data import fetch
from replication.data.fetch import DataSet, FetchError

FILES = {"one.bin": bytes(range(256)) * 2000, "two.bin": b"two" * 1000}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder with ranges, and misbehaves on request: ``cut`` replies end early, ``ranges``
    may be off.
    """

    cut, ranges, requests = None, True, []

    def do_GET(self):
        path = self.translate_path(self.path)
        try:
            body = open(path, "rb").read()
        except OSError:
            return self.send_error(404)
        asked = self.headers.get("Range", "bytes=0-")
        type(self).requests.append((self.path, asked))
        start = int(asked.split("=")[1].rstrip("-")) if self.ranges else 0
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if self.ranges else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:] if self.cut is None else body[start : max(start, self.cut)])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder, its address, and the handler that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Own", (Handler,), {"requests": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}/", handler
    httpd.shutdown()


def tar(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def good_entries():
    return [
        ("folder/readme.html", b"hello"),
        *((f"folder/{name}", content) for name, content in FILES.items()),
    ]


@pytest.fixture
def toy(monkeypatch, server):
    """A data set "toy" in one tar archive, with two upstream addresses of which the first is dead."""
    _, address, _ = server
    data_set = DataSet(
        "toy-batches",
        SUMS,
        {"toy.tar.gz": list(SUMS)},
        ("http://127.0.0.1:9/", address),
        ("{}", "toy.tar.xz", "toy.tar"),
    )
    monkeypatch.setitem(fetch.DATA_SETS, "toy", data_set)
    return data_set


def run(tmp_path, mirror=None):
    return fetch.fetch("toy", tmp_path / "data", mirror, tmp_path / "downloads")


def assert_nothing_half_written(tmp_path):
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())
    assert not [p for p in (tmp_path / "downloads").glob("*") if p.is_dir()]


def test_upstream_is_tried_in_turn_and_a_second_call_has_nothing_to_do(tmp_path, server, toy):
    tar(server[0] / "toy.tar.gz", good_entries())
    assert run(tmp_path) is True
    assert {p.name: p.read_bytes() for p in (tmp_path / "data" / "toy-batches").iterdir()} == FILES
    assert not list((tmp_path / "downloads").iterdir())
    assert run(tmp_path) is False


@pytest.mark.parametrize(
    "name, mode", [("toy.tar.gz", "w:gz"), ("toy.tar.xz", "w:xz"), ("toy.tar", "w")]
)
@pytest.mark.parametrize("by_address", [True, False])
def test_a_mirror_may_be_a_folder_or_an_address_under_any_compression(
    tmp_path, server, toy, name, mode, by_address
):
    folder, address, _ = server
    tar(folder / name, good_entries(), mode)
    run(tmp_path, address if by_address else str(folder))
    assert fetch.missing("toy", tmp_path / "data") == []
    assert (folder / name).exists()


def test_gz_files_one_by_one_as_mnist_has_them(tmp_path, server, monkeypatch):
    folder, address, _ = server
    one = DataSet("toy", SUMS, {f"{n}.gz": [n] for n in SUMS}, (address,), ("sub/{}", "{}"))
    monkeypatch.setitem(fetch.DATA_SETS, "toy", one)
    for name, content in FILES.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    run(tmp_path)
    assert (tmp_path / "data" / "toy" / "two.bin").read_bytes() == FILES["two.bin"]
    (folder / "one.bin.gz").write_bytes(gzip.compress(FILES["one.bin"])[:-20])
    with pytest.raises(
        FetchError, match="one.bin.gz could not be had, .*no such file; .*damaged or cut short"
    ):
        fetch.fetch("toy", tmp_path / "other", str(folder), tmp_path / "downloads")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed_or_restarted(tmp_path, server, toy, ranges):
    folder, address, handler = server
    tar(folder / "toy.tar", good_entries(), "w")
    handler.cut, handler.ranges = 100_000, ranges
    with pytest.raises(FetchError, match="kept to resume from"):
        run(tmp_path, address)
    assert_nothing_half_written(tmp_path)
    (part,) = (tmp_path / "downloads").glob("*.part")
    have = part.stat().st_size
    assert 0 < have <= 100_000
    handler.cut = None
    run(tmp_path, address)
    assert ("/toy.tar", f"bytes={have}-") in handler.requests
    assert fetch.missing("toy", tmp_path / "data") == []


def test_a_whole_file_left_unrenamed_is_used(tmp_path, server, toy):
    folder, address, handler = server
    tar(folder / "toy.tar", good_entries(), "w")
    path = fetch.download(address + "toy.tar", tmp_path / "downloads")
    path.rename(path.with_name(path.name + ".part"))
    run(tmp_path, address)
    assert fetch.missing("toy", tmp_path / "data") == []


def test_a_wrong_sum_is_refused_and_the_download_forgotten(tmp_path, server, toy):
    folder, address, _ = server
    tar(folder / "toy.tar.gz", [("folder/one.bin", b"other"), ("folder/two.bin", FILES["two.bin"])])
    with pytest.raises(FetchError, match="one.bin has the wrong SHA-256"):
        run(tmp_path, address)
    assert_nothing_half_written(tmp_path)
    assert not list((tmp_path / "downloads").glob("*toy*"))
    tar(folder / "toy.tar.gz", good_entries())
    run(tmp_path, address)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_a_truncated_archive(tmp_path, server, toy, mode):
    folder, _, _ = server
    tar(folder / "toy.tar.gz", good_entries(), mode)
    whole = (folder / "toy.tar.gz").read_bytes()
    (folder / "toy.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FetchError, match="damaged or cut short|holds no"):
        run(tmp_path, str(folder))
    assert_nothing_half_written(tmp_path)
    assert (folder / "toy.tar.gz").exists(), "a mirror's file is not ours to delete"


@pytest.mark.parametrize("name", ["../one.bin", "/tmp/one.bin", "folder/../../one.bin"])
def test_a_path_that_climbs_out_is_refused(tmp_path, server, toy, name):
    folder, _, _ = server
    tar(folder / "toy.tar.gz", [*good_entries(), (name, b"evil")])
    with pytest.raises(FetchError, match="climbs out"):
        run(tmp_path, str(folder))
    assert_nothing_half_written(tmp_path)


def test_a_link_in_the_archive_is_not_followed(tmp_path, server, toy):
    folder, _, _ = server
    with tarfile.open(folder / "toy.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("folder/one.bin")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(FetchError, match="holds no one.bin"):
        run(tmp_path, str(folder))
    assert_nothing_half_written(tmp_path)


def test_a_full_disk(tmp_path, server, toy, monkeypatch):
    folder, _, _ = server
    tar(folder / "toy.tar.gz", good_entries())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch.shutil, "copyfileobj", full)
    with pytest.raises(FetchError, match="the disk is full"):
        run(tmp_path, str(folder))
    assert_nothing_half_written(tmp_path)


def test_no_network_names_every_address_and_the_remedy(tmp_path, toy, monkeypatch):
    monkeypatch.setitem(
        fetch.DATA_SETS, "toy", dataclasses.replace(toy, upstream=("http://127.0.0.1:9/",))
    )
    with pytest.raises(
        FetchError,
        match="(?s)check the network, or set NONEQUILIBRIUM_MIRROR.*127.0.0.1:9/toy.tar.gz",
    ):
        run(tmp_path)
    assert_nothing_half_written(tmp_path)


def test_a_damaged_set_is_fetched_again(tmp_path, server, toy):
    folder, _, _ = server
    tar(folder / "toy.tar.gz", good_entries())
    run(tmp_path, str(folder))
    broken = tmp_path / "data" / "toy-batches" / "one.bin"
    broken.write_bytes(b"x")
    assert fetch.missing("toy", tmp_path / "data") == ["one.bin"]
    assert run(tmp_path, str(folder)) is True
    assert broken.read_bytes() == FILES["one.bin"]


def test_the_command(tmp_path, server, toy, monkeypatch, capsys):
    folder, _, _ = server
    tar(folder / "toy.tar.gz", good_entries())
    fetched = partial(fetch.fetch, data=tmp_path / "data", partial=tmp_path / "downloads")
    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setattr(fetch, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(fetch, "PARTIAL", tmp_path / "downloads")
    monkeypatch.setenv("NONEQUILIBRIUM_MIRROR", str(folder))
    assert main(["data", "toy"]) == 0 and "toy: fetched and verified" in capsys.readouterr().out
    assert main(["data", "toy"]) == 0 and "already here" in capsys.readouterr().out
    assert json.loads((tmp_path / "records" / "toy.json").read_text()) == {
        "data": "toy",
        "present": True,
        "files": SUMS,
    }
    monkeypatch.setenv("NONEQUILIBRIUM_MIRROR", str(tmp_path / "nowhere"))
    (tmp_path / "data" / "toy-batches" / "one.bin").unlink()
    assert main(["data", "toy"]) == 1 and "check NONEQUILIBRIUM_MIRROR" in capsys.readouterr().err
    record = (tmp_path / "records" / "toy.json").read_bytes()
    assert (
        json.loads(record)["present"] is False
        and "there is no such folder" in json.loads(record)["reason"]
    )
    assert main(["data", "toy", "--record"]) == 0, "the pipeline goes on without"
    assert (tmp_path / "records" / "toy.json").read_bytes() == record, "equal outcomes, equal bytes"
    capsys.readouterr()
    assert main(["data", "To-Y", "TOY", "--record"]) == 0, "a near miss is understood"
    assert capsys.readouterr().err.count("toy is not here") == 1
    assert main(["data", "mnits"]) == 2 and "did you mean 'mnist'?" in capsys.readouterr().err
    with pytest.raises(ParameterError):
        fetch.missing("nothing")
