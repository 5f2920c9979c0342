"""Pictures of any size: bark, scikit-image's textures, and one's own.

The paper's bark (UIUC texture database, T01 to T04) is no longer available. Two photographs stand
in for it or, where these are not in data/, scikit-image's textures; ``Pictures.source`` says which.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path

from torch import Tensor

from nonequilibrium.data.images import Pictures
from replication.data.images import DataError, present
from replication.data.sources import DATA, DATA_SETS

KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".pnm")
HELD_OUT = (256, 320)  # height and width of the region of a picture that is held out
APART = 32  # pixels between what is held out and what is trained on
EVERY = 4  # of many pictures, every fourth is held out whole
BARK = {
    "photographs": "two photographs of bark (Poly Haven, CC0)",
    "textures": "scikit-image's brick, grass and gravel",
}


def load_pictures(name: str, channels: int = 1, patch: int = 64, data: Path = DATA) -> Pictures:
    """Pictures by name or path; raises DataError, with the remedy, if they cannot be used.

    name: a picture or a folder of one's own; or a key of ``BARK``; or "bark", the first of these
    that is in ``data``. channels: 1 for grey, 3 for colour. patch: their least side, in pixels.
    """
    from replication.data.pictures import read_opaque  # not every machine that trains has Pillow

    if name in ("bark", *BARK) and not Path(name).exists():  # one's own pictures win
        if name != "textures" and present("bark", data):
            name, bark = "photographs", DATA_SETS["bark"]
            paths = [data / bark.folder / file for file in bark.files]
        elif name != "photographs":
            import skimage.data

            name, folder = "textures", Path(skimage.data.__file__).parent
            paths = [folder / f"{texture}.png" for texture in ("brick", "grass", "gravel")]
        else:
            raise DataError(f"{name} is not in {data}; `nonequilibrium data bark` fetches it")
        # The photographs continue at the opposite edge, so their middle is farthest from the rest.
        pictures = [read_opaque(path, channels) for path in paths]
        train, test = regions(pictures, patch, middle=name == "photographs")
        if not train or not test:
            raise DataError(f"patch = {patch} leaves no region of {BARK[name]} to hold out")
        return Pictures(train, test, BARK[name], name)
    path = Path(name).expanduser()
    paths, title = _files(path), f"pictures of {path.name or path}" if path.is_dir() else path.name
    pictures = [read_opaque(file, channels) for file in paths]
    for file, picture in zip(paths, pictures, strict=True):
        height, width = picture.shape[1:]
        if min(height, width) < patch:
            least = f"training takes patches of {patch}×{patch}, so a picture must have that"
            raise DataError(f"{file} is {width}×{height}; {least}")
    if len(pictures) < EVERY:
        return Pictures(*regions(pictures, patch, middle=False), title)
    train = [picture for number, picture in enumerate(pictures, 1) if number % EVERY]
    return Pictures(train, pictures[EVERY - 1 :: EVERY], title)


def _files(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder by number and name; says what is skipped."""
    if path.is_file():
        return [path]
    try:
        inside = [file for file in path.iterdir() if not file.name.startswith(".")]
    except OSError as error:
        allowed = f"bark, or a picture or a folder of pictures that exists ({error.strerror})"
        raise DataError(f"data is {str(path)!r}; it must be {allowed}") from None
    pictures = [file for file in inside if file.suffix.lower() in KINDS and file.is_file()]
    other = Counter(file.suffix.lower() or "others" for file in inside if file.is_file())
    below = sum(len(names) for folder in inside if folder.is_dir() for *_, names in os.walk(folder))
    counts = {kind: n for kind, n in sorted(other.items()) if kind not in KINDS}
    counts |= {"in subfolders": below} if below else {}
    skipped = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    if not pictures:
        skipped = f" ({skipped} skipped)" if skipped else ""
        raise DataError(f"{path} holds no pictures{skipped}; names must end in {', '.join(KINDS)}")
    if skipped:
        print(f"{path}: {len(pictures)} pictures are read; skipped: {skipped}", file=sys.stderr)
    return sorted(
        pictures,
        key=lambda file: [
            (int(part), "") if part.isdecimal() else (-1, part)  # 10.png after 9.png
            for part in re.split(r"(\d+)", file.name)
        ],
    )


def regions(pictures: list[Tensor], patch: int, middle: bool) -> tuple[list[Tensor], list[Tensor]]:
    """(train, test): a region of each picture is held out, its middle or its lower right corner,
    if what is left is large enough for a patch.
    """
    train, test = [], []
    for picture in pictures:
        height, width = picture.shape[1:]
        h, w = min(HELD_OUT[0], height // 2), min(HELD_OUT[1], width * 5 // 8)
        top, left = ((height - h) // 2, (width - w) // 2) if middle else (height - h, width - w)
        rest = [part for part in around(picture, top, left, h, w) if min(part.shape[1:]) >= patch]
        if rest:
            test.append(picture[:, top : top + h, left : left + w].contiguous())
        elif min(height, width) >= patch:  # too small to share
            rest = [picture]
        train += rest
    return train, test


def around(picture: Tensor, top: int, left: int, h: int, w: int) -> list[Tensor]:
    """What is left of (c, H, W) around a region and APART pixels more: rectangles above, below,
    left and right, some empty.
    """
    above, below = max(top - APART, 0), min(top + h + APART, picture.shape[1])
    before, after = max(left - APART, 0), min(left + w + APART, picture.shape[2])
    level = picture[:, above:below]
    pieces = (picture[:, :above], picture[:, below:], level[..., :before], level[..., after:])
    return [piece.contiguous() for piece in pieces]
