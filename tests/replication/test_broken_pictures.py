"""Files that are broken, or arrays of another kind: one sentence and no more, whatever the
libraries that read them do.
"""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nonequilibrium.errors import ParameterError, Refusal
from replication.data.pictures import PictureError, read_mask_file, read_picture
from replication.restoration.inpaint import centre, read_mask

SHAPE = (3, 32, 32)
KNOWN = centre(32, 32).numpy()
COLOUR = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(kind, array=COLOUR, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def stored(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def files():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "long " * 200, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "png": encoded("PNG", pnginfo=text, exif=exif),
        "16.png": encoded("PNG", COLOUR[..., 0].astype(np.uint16) * 257),
        "gif": encoded("GIF", COLOUR[..., 0]),
        "tif": encoded("TIFF"),
        "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
        "jpg": encoded("JPEG", exif=exif),
        "webp": encoded("WEBP"),
        "ppm": encoded("PPM"),
        "npy": stored(KNOWN),
    }


def corrupted(data, rng):
    """``data`` cut, with bits flipped, with bytes lost or put in, or with a number that is far too
    large.
    """
    data, n = bytearray(data), len(data)
    i, kind = int(rng.integers(n)), rng.integers(5)
    if kind == 0:
        del data[i:]
    elif kind == 1:
        for j in rng.integers(min(n, 150), size=5):
            data[j] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        del data[i : i + 30]
    elif kind == 3:
        data[i:i] = rng.bytes(20)
    else:
        i %= min(n, 150)
        data[i : i + 4] = b"\xff\xff\xff\x7f"
    return bytes(data)


@pytest.mark.parametrize("name", files())
def test_broken_files_are_read_or_refused_in_one_sentence(tmp_path, capfd, name):
    rng = np.random.default_rng(sum(name.encode()))
    path, refused = tmp_path / f"file.{name}", 0
    for _ in range(40):
        path.write_bytes(corrupted(files()[name], rng))
        for read in (read_picture, read_mask_file):
            try:
                read(path, SHAPE)
            except Refusal as error:
                refused += 1
                assert (
                    str(path) in str(error)
                    and "\n" not in str(error)
                    and len(str(error)) < 400 + len(str(path))
                )
    assert refused
    if name != "lzw.tif":  # of what is wrong there libtiff says a line of its own
        assert capfd.readouterr() == ("", "")


def test_a_flipped_bit_in_a_png_is_seen(tmp_path):
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 100] ^= 1
    (tmp_path / "p.png").write_bytes(data)
    with pytest.raises(PictureError, match="cannot be read as a picture"):
        read_picture(tmp_path / "p.png", SHAPE)


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", pickle.dumps(1)],
)
def test_what_is_no_picture(tmp_path, data):
    (tmp_path / "p.png").write_bytes(data)
    for read in (read_picture, read_mask_file):
        with pytest.raises(PictureError, match="cannot be read as a picture"):
            read(tmp_path / "p.png", SHAPE)


@pytest.mark.parametrize(
    "array",
    [
        KNOWN,
        KNOWN[..., None],
        np.asfortranarray(KNOWN),
        KNOWN.astype(np.uint8),
        KNOWN.astype(np.uint8) * 255,
        KNOWN.astype(">i4"),
        KNOWN.astype(float),
        KNOWN.astype(">f2"),
    ],
)
def test_mask_arrays(tmp_path, array):
    for name in ("m.npy", "m.mask"):  # known by what it holds, whatever its name
        (tmp_path / name).write_bytes(stored(array))
        assert (read_mask(str(tmp_path / name), SHAPE).numpy() == KNOWN).all()


def header(shape, descr="|b1", major=1):
    """An array file that holds no more than its header."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return (
        b"\x93NUMPY"
        + bytes([major, 0])
        + len(text).to_bytes(2 if major == 1 else 4, "little")
        + text
    )


def archive(*arrays):
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "data, message",
    [
        (stored(KNOWN * 2), "other values than 0"),
        (stored(KNOWN * 255), "other values than 0"),
        (stored(KNOWN * 0.5), "other values than 0"),
        (stored(np.where(KNOWN, np.nan, 0)), "other values than 0"),
        (stored(KNOWN * 1j), "complex128 of shape"),
        (stored(KNOWN.astype("U5")), "<U5 of shape"),
        (stored(KNOWN.astype(object), allow_pickle=True), "cannot be read as an array"),
        (stored(np.zeros((32, 32), [("a", bool)])), "of shape"),
        (stored(KNOWN[None]), r"shape \(1, 32, 32\); it must be bool of shape \(32, 32\)"),
        (stored(KNOWN[:16]), "shape"),
        (stored(np.True_), "shape"),
        (stored(KNOWN * False), "nothing known"),
        (stored(KNOWN | True), "nothing to fill in"),
        (stored(KNOWN)[:-1], "cannot be read as an array"),
        (header((200_000, 200_000)), "cannot be read as an array"),
        (header((32, 32), "<f8"), "cannot be read as an array"),
        (header((32, 32), major=3), "cannot be read as an array"),
        (header((32, -32)), "cannot be read as an array"),
        (header((32, 32), "|O"), "cannot be read as an array"),
        (header((32, 32), "nonsense"), "cannot be read as an array"),
        (b"", "cannot be read as an array"),
        (b"\x93NUMPY\x01", "cannot be read as an array"),
        (pickle.dumps(KNOWN), "cannot be read as an array"),
        (archive(KNOWN), "is an archive"),
        (archive(KNOWN, KNOWN), "is an archive"),
        (archive(), "is an archive"),
    ],
)
def test_arrays_that_are_no_masks(tmp_path, data, message):
    for name in ("m.npy", "m.npz"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ParameterError, match=message) as caught:
            read_mask(str(tmp_path / name), SHAPE)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
