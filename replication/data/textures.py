"""Pictures of any size: bark, and pictures of one's own.

The paper's bark is classes T01 to T04 of the UIUC texture database. Where its files are not in
data/, two photographs of bark stand in for it, and where these are not there either, three textures
that scikit-image ships. ``Pictures.source`` says which pictures they are: a bound of a stand-in is
not to be set beside the paper's.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from nonequilibrium.data.images import Pictures
from nonequilibrium.errors import one_line
from replication.data.images import DataError, present
from replication.data.pictures import KINDS, read_any
from replication.data.sources import DATA, DATA_SETS
from replication.data.uiuc import FOLDER, NAMES, whole

HELD_OUT = (256, 320)  # height and width of the region of a picture that is held out
APART = 32  # pixels between what is held out and what is trained on
EVERY = 4  # of many pictures, every fourth is held out whole
MOST_PICTURES = 10_000
TEXTURES = ("brick", "grass", "gravel")  # scikit-image's, inside its package


def load_pictures(name: str, channels: int = 1, patch: int = 64, data: Path = DATA) -> Pictures:
    """Pictures by name or path; raises DataError, with the remedy, if they cannot be used.

    name: a key of ``BARK``; "bark", the first of them that is in ``data``; or a picture or a folder
    of pictures of one's own.
    channels: 1 for grey, 3 for colour. patch: the side, in pixels, that a picture to train on must
    have at least.
    """
    if name in ("bark", *BARK) and not Path(name).exists():  # one's own pictures win
        return _bark(name, channels, patch, data)
    return _own(Path(name).expanduser(), channels, patch)


def _bark(name: str, channels: int, patch: int, data: Path) -> Pictures:
    for source, load in BARK.items():
        if name in ("bark", source) and (found := load(channels, data)) is not None:
            pictures, title, hold = found
            train, test = hold(pictures, patch)
            if not train or not test:
                raise DataError(
                    f"patch = {patch} leaves no region of {title} to hold out; it must be smaller"
                )
            return Pictures(train, test, title, source)
    raise DataError(f"{name} is not in {data}; `nonequilibrium data bark` fetches it")


def _uiuc(channels: int, data: Path):
    if not whole(data):
        return None
    pictures = [read_any(data / FOLDER / name, channels) for name in NAMES]
    return pictures, "bark, UIUC textures T01–T04", every_fourth


def _photographs(channels: int, data: Path):
    if not present("bark", data):
        return None
    wanted = DATA_SETS["bark"]
    pictures = [read_any(wanted.path(data) / file, channels) for file in wanted.files]
    return pictures, "two photographs of bark (Poly Haven, CC0)", region_in_the_middle


def _textures(channels: int, _: Path):
    import skimage.data  # here, because a machine that only trains need not have it

    folder = Path(skimage.data.__file__).parent
    pictures = [read_any(folder / f"{name}.png", channels) for name in TEXTURES]
    return pictures, "scikit-image's brick, grass and gravel", region_in_the_corner


# The pictures that may be meant by "bark", the best first.
BARK = {"uiuc": _uiuc, "photographs": _photographs, "textures": _textures}


def _own(path: Path, channels: int, patch: int) -> Pictures:
    """A picture or a folder of pictures; of four and more every fourth is held out, of fewer a
    corner of each.
    """
    pictures, paths = [], _files(path)
    for file in paths:
        picture = read_any(file, channels)
        height, width = picture.shape[1:]
        if min(height, width) < patch:
            raise DataError(
                f"{file} is {width}×{height}; training takes patches of {patch}×{patch}, so a picture must have that"
            )
        pictures.append(picture)
    train, test = (every_fourth if len(pictures) >= EVERY else region_in_the_corner)(
        pictures, patch
    )
    return Pictures(train, test, f"pictures of {path.name or path}" if path.is_dir() else path.name)


def _files(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder by name; raises DataError if there is none."""
    try:
        if not path.is_dir():
            if not path.exists():
                raise DataError(
                    f"data is {str(path)!r}; it must be bark, or a picture or a folder of pictures that exists"
                )
            return [path]
        inside = sorted(path.iterdir(), key=_by_number)
        found = [
            p
            for p in inside
            if p.suffix.lower() in KINDS and not p.name.startswith(".") and p.is_file()
        ]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    if not found:
        raise DataError(f"{path} holds no pictures; their names must end in {', '.join(KINDS)}")
    if len(found) > MOST_PICTURES:
        raise DataError(f"{path} holds {len(found):,} pictures; at most {MOST_PICTURES:,} are read")
    return found


def _by_number(path: Path) -> list:
    """A key that puts 10.png after 9.png."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]


def every_fourth(pictures: list[Tensor], patch: int) -> tuple[list[Tensor], list[Tensor]]:
    """Whole pictures, the fourth, eighth and so on held out: (train, test)."""
    aside = range(EVERY - 1, len(pictures), EVERY)
    kept = [p for i, p in enumerate(pictures) if i not in aside and min(p.shape[1:]) >= patch]
    return kept, [pictures[i] for i in aside]


def region_in_the_middle(pictures: list[Tensor], patch: int) -> tuple[list[Tensor], list[Tensor]]:
    """The middle of each picture held out. The photographs go on at the opposite edge, so no other
    place is as far from the rest.
    """
    return _regions(pictures, patch, middle=True)


def region_in_the_corner(pictures: list[Tensor], patch: int) -> tuple[list[Tensor], list[Tensor]]:
    """The lower right corner of each picture held out, if the rest is large enough for a patch."""
    return _regions(pictures, patch, middle=False)


def _regions(pictures: list[Tensor], patch: int, middle: bool) -> tuple[list[Tensor], list[Tensor]]:
    train, test = [], []
    for picture in pictures:
        height, width = picture.shape[1:]
        h, w = min(HELD_OUT[0], height // 2), min(HELD_OUT[1], width * 5 // 8)
        top, left = ((height - h) // 2, (width - w) // 2) if middle else (height - h, width - w)
        rest = [
            piece for piece in around(picture, top, left, h, w) if min(piece.shape[1:]) >= patch
        ]
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
    pieces = [
        picture[:, :above],
        picture[:, below:],
        picture[:, above:below, :before],
        picture[:, above:below, after:],
    ]
    return [piece.contiguous() for piece in pieces]
