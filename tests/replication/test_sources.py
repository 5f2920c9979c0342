"""The names by which a mirror and a data set may be called."""

from pathlib import Path

import pytest

from replication.data.sources import DATA_SETS, FetchError, places, understood, without_secrets

MNIST = DATA_SETS["mnist"]


def test_a_folder_by_every_name_that_it_has(tmp_path, monkeypatch):
    folder = tmp_path / "a disk" / "mirror#1%20"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "a disk"))
    monkeypatch.chdir(tmp_path)
    for name in (
        str(folder),
        f"{folder}//",
        f" {folder}\n",
        "~/mirror#1%20",
        "~/mirror#1%20/",
        "a disk/mirror#1%20",
    ):
        found = places(MNIST, "x.gz", name)
        assert [p.resolve() for p in found] == [folder / "mnist" / "x.gz", folder / "x.gz"], name
    for name in (
        folder.as_uri(),
        folder.as_uri() + "/",
        folder.as_uri().replace("file://", "file://localhost"),
    ):
        assert places(MNIST, "x.gz", name)[1] == folder / "x.gz", name
    assert places(MNIST, "x.gz", folder)[1] == folder / "x.gz"


def test_an_address_keeps_its_query():
    for address in ("http://h:1/a b", "http://h:1/a b/", "HTTP://h:1/a b//"):
        assert places(MNIST, "x.gz", address)[1] == "http://h:1/a b/x.gz"
    assert places(MNIST, "x.gz", "https://h?key=1")[0] == "https://h/mnist/x.gz?key=1"


@pytest.mark.parametrize(
    "mirror, said",
    [
        ("s3://bucket/a", "must be a folder, or an address that begins with http"),
        ("http:///a", "must be a folder, or an address"),
        ("http://[::1/a", "cannot be used"),
        ("file://server/share", "names no machine"),
        ("file:///nowhere/at/all", "there is no such folder"),
        ("~nobody-by-this-name/a", "cannot be used|there is no such folder"),
        ("localhost:8000/", "there is no such folder"),
        ("nowhere", "there is no such folder"),
        ("a\0b", "cannot be used|there is no such folder"),
        ("x" * 5000, "cannot be used|there is no such folder"),
        (__file__, "a file stands there"),
    ],
)
def test_what_cannot_be_a_mirror(mirror, said):
    with pytest.raises(FetchError, match=f"(?s)({said}).*check NONEQUILIBRIUM_MIRROR$"):
        places(MNIST, "x.gz", mirror)


def test_near_misses_in_a_name():
    for name in ("cifar10", "CIFAR10", "cifar-10", "CIFAR 10", "Cifar_10"):
        assert understood(name) == "cifar10"
    assert (
        understood("MNIST") == "mnist" and understood("mnits") == "mnits" and understood("") == ""
    )


def test_secrets_are_not_told():
    assert without_secrets("https://me:p@ss@host/a?token=1") == "https://host/a"
    assert without_secrets(Path("/a?b@c")) == "/a?b@c" and without_secrets("/a@b") == "/a@b"


def test_sizes_are_of_all_files():
    for wanted in DATA_SETS.values():
        assert wanted.sizes.keys() == wanted.files.keys()
        assert sorted(sum(wanted.archives.values(), [])) == sorted(wanted.files)
