"""Every route of `make data` and every way it can fail, against a local HTTP server and small
stand-ins of the archives.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from replication.__main__ import main
from replication.data import fetch
from replication.data.sources import DATA_SETS, DataError, DataSet, missing
from replication.files import ROOT

FILES = {"one.bin": bytes(range(256)) * 2000, "two.bin": b"two" * 1000}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; a reply may be late, or cut short of what its header promises."""

    cut, late, requests = None, 0.0, []

    def do_GET(self):
        type(self).requests.append(self.path)
        time.sleep(self.late)
        if self.cut is None:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(bytes(self.cut))

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder, its address, and the handler that serves it."""
    monkeypatch.setattr(fetch, "RETRIES", 0)
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Own", (Handler,), {"requests": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}/", handler
    httpd.shutdown()
    httpd.server_close()


def tar(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def good_entries():
    return [("folder/readme.html", b"hello"), *((f"folder/{n}", c) for n, c in FILES.items())]


@pytest.fixture
def toy(monkeypatch, server):
    """A data set "toy" in one tar archive; the first of two upstream addresses is dead."""
    upstream = ("http://127.0.0.1:9/", server[1])
    data_set = DataSet("toy-batches", SUMS, {"toy.tar.gz": list(SUMS)}, upstream)
    monkeypatch.setitem(DATA_SETS, "toy", data_set)
    return data_set


@pytest.fixture
def mirror(server, toy):
    """The folder of a mirror that holds the toy set, served by the address too."""
    tar(server[0] / "toy.tar.gz", good_entries())
    return server[0]


def run(tmp_path, mirror=None):
    return fetch.fetch("toy", tmp_path / "data", str(mirror) if mirror else None)


def whole(tmp_path):
    """Whether the set is there and nothing else is, no lock and no half of a file."""
    folder = tmp_path / "data" / "toy-batches"
    return {p.name: p.read_bytes() for p in folder.iterdir()} == FILES and not (
        {*(tmp_path / "data").iterdir()} - {folder}
    )


def nothing(tmp_path):
    return not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_upstream_is_tried_in_turn_and_a_second_call_has_nothing_to_do(tmp_path, mirror):
    assert run(tmp_path) is True and whole(tmp_path)
    assert run(tmp_path) is False


@pytest.mark.parametrize("name, mode", [("toy.tar.gz", "w:gz"), ("toy.tar.xz", "w:xz")])
@pytest.mark.parametrize("by_address", [True, False])
def test_a_mirror_is_a_folder_or_an_address(tmp_path, server, toy, name, mode, by_address):
    folder, address, _ = server
    tar(folder / name, good_entries(), mode)
    assert run(tmp_path, address if by_address else f"{folder}//") and whole(tmp_path)
    assert (folder / name).exists(), "a mirror's file is not ours to delete"


def test_the_shared_mirror_lays_out_files_as_the_public_ones_are_called(tmp_path, monkeypatch):
    """mnist/*.gz, cifar-10-binary.tar.xz, bark-cc0/*.jpg."""
    asked = []
    monkeypatch.setattr(fetch, "unpacked", lambda path, files: asked.append(path) or [])
    for name in ("mnist", "cifar10", "bark"):
        with pytest.raises(DataError, match="holds no .* with the published SHA-256"):
            fetch.fetch(name, tmp_path / "data", "/mirror")
    names = {str(path) for path in asked}
    assert {"/mirror/mnist/train-images-idx3-ubyte.gz", "/mirror/cifar-10-binary.tar.xz"} < names
    assert "/mirror/bark-cc0/bark_brown_02_diff_1k.jpg" in names
    assert sorted(sum(DATA_SETS["bark"].archives.values(), [])) == sorted(DATA_SETS["bark"].files)


def test_gz_files_one_by_one_and_what_is_whole_is_kept(tmp_path, server, monkeypatch):
    folder, address, _ = server
    (folder / "toy-batches").mkdir()
    one = DataSet("toy-batches", SUMS, {f"{n}.gz": [n] for n in SUMS}, (f"{address}toy-batches/",))
    monkeypatch.setitem(DATA_SETS, "toy", one)
    for name, content in FILES.items():
        (folder / "toy-batches" / f"{name}.gz").write_bytes(gzip.compress(content))
    assert run(tmp_path) and whole(tmp_path)
    packed = gzip.compress(FILES["two.bin"])
    for broken in (packed[:-20], packed[:-1] + b"x", b"", b"no archive", packed[::-1]):
        (folder / "toy-batches" / "two.bin.gz").write_bytes(broken)
        (tmp_path / "data" / "toy-batches" / "one.bin").unlink(missing_ok=True)
        (tmp_path / "data" / "toy-batches" / "two.bin").unlink(missing_ok=True)
        with pytest.raises(DataError, match="two.bin.gz is not available.*(damaged|holds no)"):
            run(tmp_path, folder)
        assert missing("toy", tmp_path / "data") == ["two.bin"], "the first is verified and kept"


def test_a_damaged_file_is_fetched_anew_and_no_other_touched(tmp_path, mirror):
    folder = tmp_path / "data" / "toy-batches"
    (folder / "notes").mkdir(parents=True)
    (folder / "two.bin").write_bytes(FILES["two.bin"])
    before = (folder / "two.bin").stat().st_ino
    kept = tmp_path / "kept.bin"
    kept.write_bytes(b"the user's")
    (folder / "one.bin").symlink_to(kept)
    with pytest.raises(DataError):
        run(tmp_path, tmp_path / "nowhere")
    assert (folder / "one.bin").is_symlink(), "as it was"
    assert run(tmp_path, mirror) and missing("toy", tmp_path / "data") == []
    assert (folder / "two.bin").stat().st_ino == before and kept.read_bytes() == b"the user's"
    for damage in (b"", FILES["one.bin"][:-1], FILES["one.bin"][:-1] + b"x"):
        (folder / "one.bin").write_bytes(damage)
        assert run(tmp_path, mirror) and missing("toy", tmp_path / "data") == []
    assert (folder / "notes").is_dir()


def test_another_data_set_under_the_same_names_is_not_replaced(tmp_path, mirror):
    folder = tmp_path / "data" / "toy-batches"
    folder.mkdir(parents=True)
    others = {name: content[::-1] + b"" for name, content in FILES.items()}
    others["two.bin"] = b"owt" * 1000
    for name, content in others.items():
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="toy-batches holds another data set.*move it away"):
        run(tmp_path, mirror)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == others


def test_a_broken_download_leaves_nothing_and_the_next_call_begins_again(tmp_path, mirror, server):
    server[2].cut = 100_000
    with pytest.raises(DataError, match=r"toy.tar.gz: the download failed \(\w+\)"):
        run(tmp_path, server[1])
    assert nothing(tmp_path)
    server[2].cut = None
    assert run(tmp_path, server[1]) and whole(tmp_path)


def test_a_failed_download_is_tried_again(tmp_path, mirror, server, monkeypatch):
    monkeypatch.setattr(fetch, "RETRIES", 1)
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(server[2], "cut", None))
    server[2].cut = 5
    assert run(tmp_path, server[1]) and whole(tmp_path)


@pytest.mark.parametrize(
    "address", ["http://[::1/", "http://a..b/", "http://127.0.0.1:port/", "http://\udcff/", "file:"]
)
def test_an_impossible_address_is_said_in_one_sentence(tmp_path, toy, mirror, address, monkeypatch):
    with pytest.raises(DataError, match="is not available, check NON.*(failed|no such)") as said:
        run(tmp_path, address)
    assert "\n" not in str(said.value)
    places = (address, toy.upstream[1])
    monkeypatch.setitem(DATA_SETS, "toy", toy._replace(upstream=places))
    assert run(tmp_path) and whole(tmp_path), "the next place is tried"


def test_no_network_names_every_address_the_reason_and_the_remedy(tmp_path, toy):
    said = r"(?s)check the network or set NON.*:9/toy.tar.gz: the download failed.*failed \(404\)"
    with pytest.raises(DataError, match=said):
        run(tmp_path)
    assert nothing(tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_a_truncated_archive(tmp_path, mirror, mode):
    tar(mirror / "toy.tar.gz", good_entries(), mode)
    content = (mirror / "toy.tar.gz").read_bytes()
    (mirror / "toy.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged or cut short|holds no"):
        run(tmp_path, mirror)
    assert "two.bin" in missing("toy", tmp_path / "data")


@pytest.mark.parametrize("name", ["../one.bin", "/tmp/one.bin", "a/../../one.bin", "one.bin"])
def test_names_and_sizes_in_an_archive_are_not_trusted(tmp_path, mirror, name, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", 2**20)
    evil = [(name, bytes(3 * 2**20)), ("other.bin", b"x"), ("folder/two.bin", FILES["two.bin"])]
    tar(mirror / "toy.tar.gz", evil)
    with pytest.raises(DataError, match="holds no one.bin with the published SHA-256"):
        run(tmp_path, mirror)
    found = {path.name for path in tmp_path.rglob("*.bin")}
    assert found == {"two.bin"}, "nothing but what is wanted and verified is written"


def test_a_link_in_an_archive_is_not_followed(tmp_path, mirror):
    (tmp_path / "one.bin").write_bytes(FILES["one.bin"])
    with tarfile.open(mirror / "toy.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("folder/one.bin")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "one.bin")
        archive.addfile(info)
    with pytest.raises(DataError, match="holds no one.bin"):
        run(tmp_path, mirror)
    assert nothing(tmp_path)


@pytest.mark.parametrize("name", ["replace", "mkdir"])
def test_a_full_disk(tmp_path, mirror, monkeypatch, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, full)
    with pytest.raises(DataError, match="toy cannot be written: .*No space left on device"):
        run(tmp_path, mirror)
    monkeypatch.undo()
    assert nothing(tmp_path)


@pytest.mark.parametrize("place", ["data", "data/toy-batches", "data/toy-batches/one.bin"])
def test_something_stands_in_the_way(tmp_path, mirror, place):
    obstacle = tmp_path / place
    obstacle.parent.mkdir(exist_ok=True, parents=True)
    if place.endswith(".bin"):
        obstacle.mkdir()
    else:
        obstacle.write_text("a file of the user's")
    with pytest.raises(DataError, match="toy cannot be written"):
        run(tmp_path, mirror)
    assert obstacle.exists()


def test_two_at_once(tmp_path, mirror, server):
    server[2].late, outcomes = 0.2, []
    threads = [
        threading.Thread(target=lambda: outcomes.append(run(tmp_path, server[1]))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(outcomes) == 3 and any(outcomes) and whole(tmp_path)


def test_the_command(tmp_path, mirror, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "DATA", tmp_path / "data")
    monkeypatch.setattr(fetch, "RECORDS", tmp_path / "records")
    monkeypatch.setenv("NONEQUILIBRIUM_MIRROR", f" {mirror}\n")
    assert main(["data", "toy"]) == 0 and "toy: fetched and verified" in capsys.readouterr().out
    assert main(["data", "toy"]) == 0 and "already here" in capsys.readouterr().out
    record = tmp_path / "records" / "toy.json"
    assert json.loads(record.read_text()) == {"data": "toy", "present": True, "files": SUMS}
    monkeypatch.setenv("NONEQUILIBRIUM_MIRROR", "http://me:secret@127.0.0.1:9/")
    (tmp_path / "data" / "toy-batches" / "one.bin").unlink()
    assert main(["data", "toy"]) == 1 and "check NONEQUILIBRIUM_MIRROR" in capsys.readouterr().err
    kept = record.read_bytes()
    assert json.loads(kept)["present"] is False and "secret" not in kept.decode()
    assert "the download failed (ConnectionError)" in json.loads(kept)["reason"]
    assert main(["data", "toy", "toy", "--record"]) == 0, "the pipeline goes on without"
    assert record.read_bytes() == kept, "equal outcomes, equal bytes"
    assert re.findall("toy is not here", capsys.readouterr().err) == ["toy is not here"]
    assert main(["data", "CIFAR-10"]) == 2 and "did you mean 'cifar10'?" in capsys.readouterr().err


def test_the_pipeline_tries_again_what_failed():
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["fetch"]["do"]
    assert stage["always_changed"] is True and stage["deps"] == [".code/data.txt"]


def test_a_machine_that_only_trains_can_import_it():
    code = "import sys; sys.modules |= dict.fromkeys(['pooch', 'requests', 'PIL'])\n"
    code += "import replication.data.fetch, replication.data.textures"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
