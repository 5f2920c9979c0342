"""The image data sets that are fetched: what they must be, where they come from, and what may stand
in for those addresses.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

from nonequilibrium.errors import Refusal, one_line
from replication.files import ROOT

DATA = ROOT / "data"
LARGEST = 1 << 30  # bytes of a file whose size is not known


class FetchError(Refusal, RuntimeError):
    """The data could not be fetched; nothing half-written is left in data/."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Where a data set comes from and what it must be.

    folder: its name in data/. files: {unpacked file: SHA-256}. archives: {archive: files to take
    from it}; a tar archive is named without its compression. upstream: public addresses of the
    folder that holds the archives.
    mirror: names by which a mirror may call an archive, "{}" standing for its upstream name. sizes:
    {unpacked file: bytes}.
    """

    folder: str
    files: dict[str, str]
    archives: dict[str, list[str]]
    upstream: tuple[str, ...]
    mirror: tuple[str, ...]
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def path(self, data: Path = DATA) -> Path:
        return data / self.folder

    def most(self, members) -> int:
        """Bytes that an archive of ``members`` cannot honestly exceed, packed or unpacked: other
        files in it may double it.
        """
        return 2 * sum(self.sizes.get(name, LARGEST) for name in members) + (10 << 20)


_MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_CIFAR10 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
DATA_SETS = {
    "mnist": DataSet(
        "mnist",
        _MNIST,
        {f"{name}.gz": [name] for name in _MNIST},
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        ("mnist/{}", "{}"),
        dict(
            zip(_MNIST, (16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000), strict=True)
        ),
    ),
    "cifar10": DataSet(
        "cifar-10-batches-bin",
        _CIFAR10,
        {"cifar-10-binary.tar.gz": list(_CIFAR10)},
        ("https://www.cs.toronto.edu/~kriz/",),
        ("{}", "cifar-10-binary.tar.xz", "cifar-10-binary.tar.bz2", "cifar-10-binary.tar"),
        dict.fromkeys(_CIFAR10, 10_000 * 3073),
    ),
    "bark": DataSet(  # the two photographs that stand in for the paper's bark; that is in data.uiuc
        "bark-cc0",
        {
            "bark_brown_02_diff_1k.jpg": "920fa0bed0c9d78c1d530e99795113afd532d7db746de440f4a85d7c83ed0f1a",
            "bark_willow_02_diff_1k.jpg": "95e1380566834aab220bd8ea9a5287f3bfff46910c18017fcb46ebbbe832024f",
        },
        {
            f"bark_{kind}_02_diff_1k.jpg": [f"bark_{kind}_02_diff_1k.jpg"]
            for kind in ("brown", "willow")
        },
        tuple(
            f"https://dl.polyhaven.org/file/ph-assets/Textures/jpg/1k/bark_{kind}_02/"
            for kind in ("brown", "willow")
        ),
        ("bark-cc0/{}", "{}"),
        {"bark_brown_02_diff_1k.jpg": 659_592, "bark_willow_02_diff_1k.jpg": 998_966},
    ),
}


def understood(name: str) -> str:
    """The data set that ``name`` means whatever its case, hyphens and spaces, as CIFAR-10; else
    ``name`` as it is.
    """
    plain = re.sub(r"[\W_]", "", name).lower()
    return plain if plain in DATA_SETS else name


def places(wanted: DataSet, archive: str, mirror: str | None) -> list[str | Path]:
    """Addresses and paths to try in turn for one archive; raises FetchError if ``mirror`` cannot be
    one.
    """
    if mirror is None:
        return [base + archive for base in wanted.upstream]
    place, names = _mirror(str(mirror)), [pattern.format(archive) for pattern in wanted.mirror]
    if isinstance(place, Path):
        return [place / name for name in names]
    return [place._replace(path=f"{place.path.rstrip('/')}/{name}").geturl() for name in names]


def _mirror(mirror: str) -> Path | SplitResult:
    """A mirror as a folder that exists, or as an http address."""
    refused = f"the mirror is {without_secrets(mirror)!r}, but {{}}; check NONEQUILIBRIUM_MIRROR"
    text = mirror.strip()
    try:
        address = urlsplit(text)
        if "://" not in text and address.scheme != "file":
            folder = Path(text).expanduser()
        elif address.scheme in ("http", "https") and address.hostname:
            return address
        elif address.scheme != "file":
            raise FetchError(
                refused.format(
                    "it must be a folder, or an address that begins with http:// or https://"
                )
            )
        elif address.netloc not in ("", "localhost"):
            raise FetchError(
                refused.format("the address of a folder begins with file:/// and names no machine")
            )
        else:
            folder = Path(url2pathname(address.path))
        if folder.is_file():
            raise FetchError(
                refused.format("a file stands there; name the folder that holds the archives")
            )
        if not folder.is_dir():
            raise FetchError(refused.format("there is no such folder"))
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # no permission, not an address, a home that nobody has
        if isinstance(error, FetchError):
            raise
        raise FetchError(refused.format(f"it cannot be used ({one_line(error)})")) from None
    return folder


def without_secrets(place: str | Path) -> str:
    """An address without the password and the query that it may hold, fit for a message."""
    return (
        re.sub(r"(?<=://)[^/]*@|(?<=.)\?.*", "", place)
        if isinstance(place, str) and "://" in place
        else str(place)
    )
