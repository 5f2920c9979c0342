"""Pictures of any size to train on: one's own, photographs of bark or, without these, textures."""

import re
import sys
from pathlib import Path

from torch import Tensor

from nonequilibrium.data.images import ImageSet, Pictures
from nonequilibrium.data.leaves import leaves_pictures
from replication.data.images import load_images, present
from replication.data.sources import DATA, DATA_SETS, DataError

KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".pnm")
HELD_OUT = (256, 320)  # height and width of the region of a picture that is held out
APART = 32  # pixels between what is held out and what is trained on
EVERY = 4  # of many pictures, every fourth is held out whole
TEXTURES = ("brick", "grass", "gravel")  # scikit-image's
BARK = {  # in place of the paper's photographs, which are no longer available
    "photographs": "two photographs of bark (Poly Haven, CC0)",
    "textures": "scikit-image's brick, grass and gravel",
}


def training_data(settings) -> ImageSet | Pictures:
    """The images of a model's ``settings``; raises DataError if they are absent or unusable."""
    if hasattr(settings, "smallest"):
        return leaves_pictures(settings)
    if hasattr(settings, "patch"):
        return load_pictures(settings.data, settings.channels, settings.patch)
    return load_images(settings.data)


def load_pictures(name: str, channels: int = 1, patch: int = 64, data: Path = DATA) -> Pictures:
    """Pictures by name or path; raises DataError, with the remedy, if they cannot be used.

    name: a picture or a folder of one's own; a key of ``BARK``; or "bark", the first of these that
    is there. channels: 1 for grey, 3 for colour. patch: their least side, in pixels.
    """
    if name not in ("bark", *BARK) or Path(name).exists():  # one's own pictures win
        path = Path(name).expanduser()
        files, source, title = _files(path), "own", path.name or str(path)
        title = f"pictures of {title}" if path.is_dir() else title
    elif name != "textures" and present("bark", data):
        source, folder = "photographs", data / DATA_SETS["bark"].folder
        files, title = [folder / file for file in DATA_SETS["bark"].files], BARK[source]
    elif name != "photographs":
        import skimage.data

        source, folder = "textures", Path(skimage.data.__file__).parent
        files, title = [folder / f"{texture}.png" for texture in TEXTURES], BARK[source]
    else:
        raise DataError(f"{name} is not in {data}; `nonequilibrium data bark` fetches it")
    pictures = [_large(file, channels, patch) for file in files]
    if source == "own" and len(pictures) >= EVERY:
        train = [picture for number, picture in enumerate(pictures, 1) if number % EVERY]
        return Pictures(train, pictures[EVERY - 1 :: EVERY], title)
    # The photographs continue at the opposite edge, so their middle is farthest from the rest.
    train, test = regions(pictures, patch, middle=source == "photographs")
    if source != "own" and not test:
        raise DataError(f"patch = {patch} leaves no region of {title} to hold out")
    return Pictures(train, test, title, source)


def _large(file: Path, channels: int, patch: int) -> Tensor:
    """A picture to train on, uint8 (c, h, w), every pixel opaque, of at least a patch."""
    from replication.data.pictures import read_opaque  # not every machine that trains has Pillow

    picture = read_opaque(file, (channels,))
    if min(picture.shape[1:]) < patch:
        size = f"{picture.shape[2]}×{picture.shape[1]}"
        raise DataError(f"{file} is {size}; training takes patches of {patch}×{patch}")
    return picture


def _files(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder by number and name; says what is skipped."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"data is {str(path)!r}; it must be bark, a picture or a folder")
    files = [file for file in path.rglob("[!.]*") if file.is_file()]
    pictures = [file for file in files if file.parent == path and file.suffix.lower() in KINDS]
    skipped = f"skipped, in subfolders too: {len(files) - len(pictures)} other files"
    if not pictures:
        raise DataError(f"{path} holds no pictures, named *{', *'.join(KINDS)} ({skipped})")
    if len(files) > len(pictures):
        print(f"{path}: {len(pictures)} pictures are read; {skipped}", file=sys.stderr)
    parts = {file: re.split(r"(\d+)", file.name) for file in pictures}  # 10.png after 9.png
    return sorted(parts, key=lambda file: [int(p) if p.isdecimal() else p for p in parts[file]])


def regions(pictures: list[Tensor], patch: int, middle: bool) -> tuple[list[Tensor], list[Tensor]]:
    """(train, test): held out is the middle of each picture, or else its lower right corner."""
    train, test = [], []
    for picture in pictures:
        height, width = picture.shape[1:]
        h, w = min(HELD_OUT[0], height // 2), min(HELD_OUT[1], width * 5 // 8)
        top, left = ((height - h) // 2, (width - w) // 2) if middle else (height - h, width - w)
        above, below, before = max(top - APART, 0), top + h + APART, max(left - APART, 0)
        level = picture[:, above:below]
        rest = [picture[:, :above], picture[:, below:]]
        rest += [level[..., :before], level[..., left + w + APART :]]
        rest = [part.contiguous() for part in rest if min(part.shape[1:]) >= patch]
        if rest:
            test.append(picture[:, top : top + h, left : left + w].contiguous())
        train += rest or [picture]  # too small to share
    return train, test
