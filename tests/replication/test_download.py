"""Servers of every temper: each answer below is what some server sends, byte by byte."""

import gzip
import socket
import threading
import time
import urllib.parse

import pytest

from nonequilibrium.files import sha256
from replication.data import download
from replication.data.archives import unpack
from replication.data.download import part_path
from replication.data.sources import FetchError

BODY = bytes(range(256)) * 400


@pytest.fixture
def serve():
    """serve(answer, …): address of a server that calls the answers(connection, request) in turn,
    the last again and again.
    """
    listening = []

    def start(*answers):
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)
        asked = []

        def loop():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                request = connection.recv(65536).decode()
                asked.append(request)
                try:
                    answers[min(len(asked), len(answers)) - 1](connection, request)
                except OSError:
                    pass
                connection.close()

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/file.gz", asked

    yield start
    for server in listening:
        server.close()


def reply(body, *headers, status="200 OK"):
    """An answer of these very bytes."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""])
    return lambda connection, _: connection.sendall(head.encode("latin-1") + body)


def drip(head, seconds=3.0):
    """An answer that sends what it has byte by byte until ``seconds`` are over."""

    def answer(connection, _):
        connection.sendall(head)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.sendall(b"a")
            time.sleep(0.02)

    return answer


def test_whole_whatever_is_said_of_its_length(tmp_path, serve):
    for length in ("Content-Length: many", "Content-Length: -5", "X: y", "Content-Length: "):
        address, asked = serve(reply(BODY, length))
        assert download.download(address, tmp_path).read_bytes() == BODY
        assert "Range" not in asked[0]
    chunked = reply(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked")
    assert download.download(serve(chunked)[0], tmp_path).read_bytes() == BODY


def test_content_encoding_leaves_what_was_asked_for(tmp_path, serve):
    packed = gzip.compress(BODY)
    twice = gzip.compress(packed)
    for sent, header in ((packed, "gzip"), (packed, "x-gzip"), (twice, "gzip"), (BODY, "identity")):
        address, _ = serve(
            reply(sent, f"Content-Encoding: {header}", f"Content-Length: {len(sent)}")
        )
        path = download.download(address, tmp_path)
        (tmp_path / "plain").write_bytes(BODY)
        unpack(path, {"file": sha256(tmp_path / "plain")}, tmp_path, {"file": len(BODY)})
        assert (tmp_path / "file").read_bytes() == BODY
    with pytest.raises(FetchError, match="packs what it sends with 'br'"):
        download.download(serve(reply(BODY, "Content-Encoding: br"))[0], tmp_path)


@pytest.mark.parametrize(
    "second",
    [
        reply(b"", status="416 Range Not Satisfiable"),
        reply(b"", "Content-Range: bytes */77", status="416 Range Not Satisfiable"),
        reply(b"", "Content-Range: nonsense", status="416 Range Not Satisfiable"),
        reply(BODY[9:], "Content-Range: bytes 9-102399/102400", status="206 Partial Content"),
    ],
)
def test_what_cannot_be_resumed_is_begun_again(tmp_path, serve, second):
    address, asked = serve(second, reply(BODY, f"Content-Length: {len(BODY)}"))
    part_path(address, tmp_path).write_bytes(b"of another file")
    assert download.download(address, tmp_path).read_bytes() == BODY
    assert "Range: bytes=15-" in asked[0] and "Range" not in asked[1]


def test_416_for_a_file_that_is_whole(tmp_path, serve):
    address, asked = serve(
        reply(b"", f"Content-Range: bytes */{len(BODY)}", status="416 Range Not Satisfiable")
    )
    part_path(address, tmp_path).write_bytes(BODY)
    assert download.download(address, tmp_path).read_bytes() == BODY and len(asked) == 1


@pytest.mark.parametrize(
    "status", ["416 No", "204 No Content", "404 No", "500 Oops", "304 Not Modified", "206 Part"]
)
def test_other_answers_are_refused(tmp_path, serve, status):
    with pytest.raises(FetchError, match=f"answered {status[:3]}"):
        download.download(
            serve(reply(b"", "Content-Range: bytes 7-8/9", status=status))[0], tmp_path
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n",
    ],
)
def test_a_slow_server_is_given_up_wherever_it_is_slow(tmp_path, serve, monkeypatch, head):
    monkeypatch.setattr(download, "WINDOW", 0.4)
    began = time.monotonic()
    with pytest.raises(FetchError, match="less than 5,000 bytes a second|download failed"):
        download.download(serve(drip(head))[0], tmp_path)
    assert time.monotonic() - began < 2


def test_a_steady_server_is_not_given_up(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(download, "WINDOW", 0.1)

    def steady(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for i in range(40):
            connection.sendall(BODY[i * 2560 : (i + 1) * 2560])
            time.sleep(0.01)

    assert download.download(serve(steady)[0], tmp_path).read_bytes() == BODY


def test_no_more_is_written_than_it_could_be(tmp_path, serve):
    with pytest.raises(FetchError, match="offers 9,999,999,999 bytes, more than the 50,000"):
        download.download(serve(reply(BODY, "Content-Length: 9999999999"))[0], tmp_path, 50_000)
    with pytest.raises(FetchError, match="sends more than 50,000 bytes"):
        download.download(serve(reply(BODY))[0], tmp_path, 50_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "answer",
    [
        reply(BODY[:5000], "Content-Length: 102400"),
        reply(b"ffff\r\n" + BODY[:5000], "Transfer-Encoding: chunked"),
        reply(b"", "Location: file:///etc/passwd", status="302 Found"),
        reply(b"", "Location: http://[", status="302 Found"),
        lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH\r\n"),
        lambda connection, _: connection.sendall(
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"
        ),
        lambda connection, _: None,
    ],
)
def test_broken_answers_are_said_in_one_sentence(tmp_path, serve, answer):
    with pytest.raises(FetchError) as refusal:
        download.download(serve(answer)[0], tmp_path)
    assert "\n" not in str(refusal.value) and "failed" in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://a..b/x",
        f"http://{'a' * 70}.org/x",
        "http://[::1/x",
        "http:///x",
        "http://127.0.0.1:99999/x",
        "gopher://a/x",
    ]
    + [
        "http://127.0.0.1:port/x",
        "http://*.\u2603/x",
        "http://a b/x",
        "nothing",
        "http://\udcff/x",
    ],
)
def test_impossible_addresses(tmp_path, address):
    with pytest.raises(FetchError, match="download failed"):
        download.download(address, tmp_path)


def test_a_query_is_no_part_of_the_name(tmp_path, serve):
    address, _ = serve(reply(BODY))
    path = download.download(
        address + "?" + urllib.parse.urlencode({"token": "a/b" * 200}), tmp_path
    )
    assert path.name.endswith("-file.gz")
