"""Files that are broken: one sentence and no more, whatever the libraries that read them do."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nonequilibrium.errors import Refusal
from replication.data.pictures import PictureError, read_mask_file, read_picture

SHAPE = (3, 32, 32)
COLOUR = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(kind, array=COLOUR, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
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
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        pickle.dumps(1),
        b"\x93NUMPY",
    ],
)
def test_what_is_no_picture(tmp_path, data):
    (tmp_path / "p.png").write_bytes(data)
    for read in (read_picture, read_mask_file):
        with pytest.raises(PictureError, match="cannot be read as a picture"):
            read(tmp_path / "p.png", SHAPE)
