"""Pictures and masks of every kind of file: read as they are meant, or refused in one sentence."""

import io
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from nonequilibrium.errors import ParameterError
from replication.data.pictures import PictureError, read_mask_file, read_picture
from replication.restoration.inpaint import centre, read_mask

SHAPE, GREY = (3, 32, 32), (1, 32, 32)
RAMP = np.arange(1024).reshape(32, 32) // 4  # every level from 0 to 255
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], -1).astype(np.uint8)
KNOWN = centre(32, 32).numpy()


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def levels(path, shape=GREY):
    return read_picture(path, shape)[0].numpy()


@pytest.mark.parametrize("name", ["8.png", "8.bmp", "8.pgm", "8.tif"])
def test_levels_are_those_of_the_files_range(tmp_path, name):
    array = RAMP.astype(np.uint8)
    path = saved(tmp_path / name, array)
    assert (levels(path)[0] == RAMP).all()
    assert (levels(path, SHAPE) == RAMP).all()
    dark = saved(tmp_path / f"dark{name}", array // 4)  # the range is not the brightest pixel's
    assert abs(levels(dark)[0].astype(int) - RAMP // 4).max() <= 1


@pytest.mark.parametrize("byteorder", "<>")
def test_tiffs_say_their_range_themselves(tmp_path, byteorder):
    tifffile.imwrite(tmp_path / "c.tif", COLOUR, photometric="rgb", byteorder=byteorder)
    assert (levels(tmp_path / "c.tif", SHAPE) == COLOUR.transpose(2, 0, 1)).all()
    grey = RAMP.astype(np.uint8)
    tifffile.imwrite(tmp_path / "w.tif", grey, photometric="miniswhite", byteorder=byteorder)
    assert (levels(tmp_path / "w.tif")[0] == 255 - RAMP).all()


@pytest.mark.parametrize(
    "array",
    [
        (RAMP * 1000).astype(np.int32),
        (RAMP * 10_000_000).astype(np.uint32),
        (RAMP * 100).astype(np.int16),
        (RAMP // 2).astype(np.int8),
        (RAMP / 255).astype(np.float32),
        RAMP.astype(np.float32),
        (RAMP / 255).astype(np.float16),
        (COLOUR / 255).astype(np.float32),
    ],
)
def test_numbers_whose_white_is_not_defined_are_refused(tmp_path, array):
    colour = "rgb" if array.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "p.tif", array, photometric=colour)
    with pytest.raises(PictureError, match="unusual kind .*save it as PNG|no kind that is read"):
        read_picture(tmp_path / "p.tif", SHAPE)


def test_16_bits_are_refused_and_not_read_nearly_black_where_12_are_meant(tmp_path):
    for white in (2**16 - 1, 2**12 - 1):
        deep = (COLOUR.astype(np.uint32) * white // 255).astype(np.uint16)
        for order, name in {"<": "little.tif", ">": "big.tif"}.items():
            tifffile.imwrite(tmp_path / name, deep.astype(f"{order}u2"), photometric="rgb")
        saved(tmp_path / "grey.png", deep[..., 0])
        saved(tmp_path / "grey.tif", deep[..., 0], compression="tiff_lzw")
        (tmp_path / "colour.png").write_bytes(png(16, 2, deep.astype(">u2")))
        for name, kind in {"grey.ppm": b"P5", "colour.ppm": b"P6"}.items():
            content = (deep if "colour" in name else deep[..., 0]).astype(">u2").tobytes()
            (tmp_path / name).write_bytes(kind + b" 32 32 65535\n" + content)
        for path in tmp_path.iterdir():
            for read in (read_picture, read_mask_file):
                with pytest.raises(PictureError, match="16 bits.*save it as PNG of 8 bits"):
                    read(path, SHAPE)
    content = (tmp_path / "colour.ppm").read_bytes().replace(b" 65535\n", b" 4095\n")
    (tmp_path / "colour.ppm").write_bytes(content)  # which says its range
    found = levels(tmp_path / "colour.ppm", SHAPE).transpose(1, 2, 0).astype(int)
    assert abs(found - COLOUR).max() <= 1


@pytest.mark.parametrize(
    "name", ["CMYK.tif", "CMYK.jpg", "LAB.tif", "YCbCr.tif", "planes.tif", "fax.tif"]
)
def test_unusual_kinds_are_refused(tmp_path, name):
    mode, path = name.partition(".")[0], tmp_path / name
    if mode == "planes":
        planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1).astype(np.uint16) * 257)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    elif mode == "fax":
        saved(path, KNOWN, compression="group4")
    else:
        picture = Image.new("LAB", (32, 32)) if mode == "LAB" else Image.fromarray(COLOUR)
        (picture if mode == "LAB" else picture.convert(mode)).save(path)
    for read in (read_picture, read_mask_file):
        with pytest.raises(PictureError, match="is of an unusual kind"):
            read(path, SHAPE)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("kind", ["tif", "png", "bmp", "gif", "webp"])
def test_modes_that_convert(tmp_path, mode, kind):
    picture = Image.fromarray(COLOUR).convert("P" if kind == "gif" else mode)
    picture.save(tmp_path / f"p.{kind}", lossless=True)
    pixels, opaque = read_picture(tmp_path / f"p.{kind}", SHAPE)
    wanted = np.asarray(picture.convert("RGB"))
    assert (pixels.movedim(0, -1).numpy() == wanted).all() and opaque.all()


def test_a_jpeg_with_a_preview_behind_it_is_its_first_frame(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.new("RGB", (16, 16))
    first.save(tmp_path / "plain.jpg", "JPEG", quality=95)
    first.save(tmp_path / "p.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(tmp_path / "p.jpg").n_frames == 2
    found = levels(tmp_path / "p.jpg", SHAPE)
    assert (found == levels(tmp_path / "plain.jpg", SHAPE)).all()


def test_pictures_are_read_with_standard_error_closed(tmp_path):
    saved(tmp_path / "p.tif", COLOUR, compression="tiff_lzw")
    code = (
        "import sys; from pathlib import Path; from replication.data.pictures import read_picture\n"
    )
    code += "print(int(read_picture(Path(sys.argv[1]), (3, 32, 32))[0].sum()))"
    command = ["sh", "-c", '"$2" -c "$0" "$1" 2>&-', code, tmp_path / "p.tif", sys.executable]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    assert int(done.stdout) == COLOUR.sum()


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tif", "p.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, name, orientation):
    upright = np.zeros((32, 32), np.uint8)
    upright[:16, :8] = 255
    turn = [np.array, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, np.transpose]
    turn += [np.rot90, lambda a: np.rot90(a, 2).T, lambda a: np.rot90(a, -1)]
    stored = np.ascontiguousarray(turn[orientation - 1](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, stored, exif=exif)
    assert abs(levels(path)[0].astype(int) - upright).max() < 40
    assert abs(read_mask_file(path, SHAPE).numpy() * 255 - upright.astype(int)).max() == 0


def test_what_is_not_opaque_is_missing(tmp_path):
    alpha = np.where(KNOWN, 255, 0).astype(np.uint8)
    alpha[8, 8:24] = 200  # half-transparent edges are not wholly known
    keyed = np.where(KNOWN, RAMP.clip(1), 0).astype(np.uint8)
    cases = {
        "rgba.png": (np.dstack([COLOUR, alpha]), {}),
        "rgba.webp": (np.dstack([COLOUR, alpha]), {"lossless": True}),
        "rgba.tif": (np.dstack([COLOUR, alpha]), {}),
        "la.png": (np.dstack([RAMP.astype(np.uint8), alpha]), {}),
        "key.png": (keyed, {"transparency": 0}),
    }
    for name, (array, options) in cases.items():
        pixels, opaque = read_picture(saved(tmp_path / name, array, **options), SHAPE)
        assert (opaque.numpy() == KNOWN).all(), name
    palette = Image.fromarray(np.where(KNOWN, 1, 0).astype(np.uint8), "P")
    palette.putpalette([0, 255, 0, 200, 10, 10])
    for name in ("p.png", "p.gif"):
        palette.save(tmp_path / name, transparency=0)
        pixels, opaque = read_picture(tmp_path / name, SHAPE)
        assert (opaque.numpy() == KNOWN).all() and pixels[:, 0, 0].tolist() == [200, 10, 10]


def png(bits, colour_type, rows, extra=b""):
    """A PNG of kinds that Pillow does not write, of 32 rows or of the same row 32 times."""
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(0, 2)
    size = (32).to_bytes(4, "big") * 2
    PngImagePlugin.putchunk(file, b"IHDR", size + bytes([bits, colour_type, 0, 0, 0]))
    if extra:
        PngImagePlugin.putchunk(file, b"tRNS", extra)
    rows = [rows] * 32 if isinstance(rows, bytes) else [row.tobytes() for row in rows]
    PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    PngImagePlugin.putchunk(file, b"IEND", b"")
    return file.getvalue()


def test_a_transparent_colour_in_other_than_8_bits_is_refused(tmp_path):
    (tmp_path / "p.png").write_bytes(png(4, 0, b"\x12" * 16))
    assert set(np.unique(levels(tmp_path / "p.png"))) == {17, 34}
    grey = (RAMP * 257).astype(">u2")
    for bits, kind, row, key in [
        (16, 2, b"\x12\x34" * 96, b"\x12\x34" * 3),
        (4, 0, b"\x12" * 16, b"\0\x01"),
        (16, 0, grey, b"\0\x01"),
    ]:
        (tmp_path / "p.png").write_bytes(png(bits, kind, row, key))
        with pytest.raises(PictureError, match="a transparent colour among few levels"):
            read_picture(tmp_path / "p.png", SHAPE)


@pytest.mark.parametrize("name", ["p.gif", "p.png", "p.webp", "p.tif"])
def test_several_frames_are_refused(tmp_path, name):
    frames = [Image.fromarray(np.roll(COLOUR, k, 0)) for k in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for read in (read_picture, read_mask_file):
        with pytest.raises(PictureError, match="more than one frame"):
            read(tmp_path / name, SHAPE)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    for side, message in [(12_000, "is 12000×12000"), (60_000, "decompression bomb")]:
        header = b"P5 %d %d 255\n" % (side, side)
        (tmp_path / "p.pgm").write_bytes(header)
        with pytest.raises(PictureError, match=message):
            read_picture(tmp_path / "p.pgm", SHAPE)
    with (tmp_path / "p.png").open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(PictureError, match="no ordinary file of at most 64 MB"):
        read_picture(tmp_path / "p.png", SHAPE)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "absent.png"):
        with pytest.raises(PictureError, match="no ordinary file|no such file"):
            read_picture(path, SHAPE)


def ragged():
    """A mask with soft edges, 0 to 1, and the same split at half."""
    x, y = np.mgrid[:32, :32] - 15.5
    soft = np.clip(np.hypot(x, y) - 8, -1, 1) / 2 + 0.5
    return soft, soft >= 0.5


SOFT, SPLIT = ragged()
TWO = KNOWN.astype(np.uint8)


@pytest.mark.parametrize(
    "name, array, expected",
    [
        ("01.png", TWO, KNOWN),
        ("0255.png", TWO * 255, KNOWN),
        ("bool.png", KNOWN, KNOWN),
        ("label.png", TWO * 7, KNOWN),
        ("soft.png", np.rint(SOFT * 255).astype(np.uint8), SPLIT),
        ("lossy.jpg", TWO * 255, KNOWN),
        ("alpha.png", np.dstack([np.full((32, 32, 3), 255, np.uint8), TWO * 255]), KNOWN),
        ("la.png", np.dstack([np.full((32, 32), 255, np.uint8), TWO * 255]), KNOWN),
        ("hidden.png", np.dstack([TWO * 255] * 3 + [TWO * 255]), KNOWN),
    ],
)
def test_masks_of_every_range(tmp_path, name, array, expected):
    assert (read_mask(str(saved(tmp_path / name, array)), SHAPE).numpy() == expected).all()


@pytest.mark.parametrize(
    "palette", [[0, 0, 0, 128, 0, 0], [0, 0, 0, 255, 255, 255], [0, 0, 0, 1, 1, 1]]
)
def test_masks_with_a_palette(tmp_path, palette):
    picture = Image.fromarray(TWO, "P")
    picture.putpalette(palette)
    picture.save(tmp_path / "m.png")
    assert (read_mask(str(tmp_path / "m.png"), SHAPE).numpy() == KNOWN).all()


@pytest.mark.parametrize(
    "array, message",
    [
        (TWO * 0, "nothing known"),
        (TWO * 0 + 255, "nothing to fill in"),
        (TWO * 0 + 1, "nothing to fill in"),
        (np.dstack([TWO * 0] * 3 + [TWO * 255]), "nothing known"),
        (np.dstack([TWO * 255] * 3 + [TWO * 0]), "nothing known"),
        (RAMP.astype(np.uint8), "neither black nor white"),
        (COLOUR, "has colours"),
        (TWO * 50 + 100, "neither black nor white"),
        ((RAMP % 3).astype(np.uint8), "nothing known"),
    ],
)
def test_masks_that_are_refused(tmp_path, array, message):
    with pytest.raises(ParameterError, match=message):
        read_mask(str(saved(tmp_path / "m.tif", array)), SHAPE)
