"""Images of one's own: a folder a class, below train/ and test/ (or val/), or below one folder that
is split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, UnidentifiedImageError

from mint_cli import machine
from mint_cli.data.images import split, take
from mint_cli.data.stored import File, Stored
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")
TESTS = ("test", "val", "validation")  # the first that is there holds the test images
LARGEST = 2**28  # bytes of one file
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
)
SHARE = 4  # of the machine's memory one part in so many holds pixels, where this is left to it


def imagefolder(
    root: Path,
    /,
    *,
    folder: str | None,
    size: int,
    memory: int | str,
    validation: int,
    test_share: float,
    seed: int,
    padding: int,
    flip: bool,
    mean: list[float],
    std: list[float],
) -> Splits:
    """The images below ``root`` / ``folder``, their shorter side scaled to ``size``, the middle
    square of each.

    Classes are the names of the folders below train/, in their order.  Without train/ the folder
    itself is split: ``test_share`` of every class, fixed by ``seed``, are the test images.  All
    formats that Pillow reads become three channels of 8 bits.  Pixels that take up more than
    ``memory`` (bytes, or ``auto``: a quarter of the machine's) are read whenever they are wanted;
    the results are the same.  DataError names an image that cannot be read, a class without images
    and folders that are missing.
    """
    place = Path(root) / folder if folder else Path(root)
    if not 1 <= size <= 4096:
        raise SettingError("size", "must lie between 1 and 4096 pixels", size)
    most = room(memory)
    if not place.is_dir():
        raise DataError(f"there is no folder {place} with images (data=… and dataset.folder=…)")
    tests = [place / name for name in TESTS if (place / name).is_dir()]
    if (place / "train").is_dir():
        classes = names(place / "train")
        train = found(place / "train", classes, size)
        if not tests:
            raise DataError(
                f"{place} has train/ but none of {', '.join(f'{name}/' for name in TESTS)}"
            )
        if unknown := sorted(set(names(tests[0])) - set(classes)):
            raise DataError(f"{tests[0]} has a class {unknown[0]}, of which train/ has no images")
        test = found(tests[0], classes, size)
    else:
        classes = names(place)
        train, test = parted(found(place, classes, size), test_share, seed)
    if 3 * size * size * (len(train) + len(test)) <= most:
        train, test = (replace(part, pixels=part.pixels.kept()) for part in (train, test))
    train = replace(train, padding=padding, flip=flip)
    return split(train, test, len(classes), validation, seed, mean, std)


imagefolder.indifferent = ("memory",)  # settings that change no result


def room(memory: int | str) -> int:
    """Bytes that pixels may take up."""
    if memory == "auto":
        return machine.memory() // SHARE
    if not isinstance(memory, int) or memory < 0:
        raise SettingError("memory", "must be auto or a number of bytes, 0 or more", memory)
    return memory


def names(folder: Path) -> list[str]:
    """Names of the classes below a folder, in order; DataError unless there are two or more."""
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(found) < 2:
        raise DataError(
            f"{folder} must hold a folder of images for each of two or more classes, not "
            f"{len(found)}"
        )
    return found


def pictures(folder: Path) -> Iterator[Path]:
    """The image files below a folder, in order."""
    return (
        p for p in sorted(folder.rglob("*")) if p.suffix.lower() in ENDINGS and p.name[0] != "."
    )


def found(folder: Path, classes: list[str], size: int) -> Images:
    """All images below a folder of classes, unread; classes that it lacks give none."""
    labelled = [
        (path, label) for label, name in enumerate(classes) for path in pictures(folder / name)
    ]
    there = {label for _, label in labelled}
    for label, name in enumerate(classes):
        if label not in there and (folder / name).is_dir():
            raise DataError(f"{folder / name} holds no images ({', '.join(ENDINGS)})")
    if not labelled:
        raise DataError(f"{folder} holds no images ({', '.join(ENDINGS)})")
    files = tuple(checked(path) for path, _ in labelled)
    decoded = f"middle square of {size} by Pillow {PIL.__version__}"
    pixels = Stored(files, partial(picture, size=size), decoded, (3, size, size))
    return Images(pixels, torch.tensor([label for _, label in labelled]))


def checked(path: Path) -> File:
    """The file of an image, of which the beginning alone is looked at."""
    file = File.at(path)
    if file.size > LARGEST:
        raise DataError(f"{path} has more than {LARGEST} bytes")
    try:
        Image.open(path).close()
    except UNREADABLE as error:
        raise DataError(f"{path} is no image that can be read: {error}") from error
    return file


def picture(path: Path, size: int) -> torch.Tensor:
    """One image, uint8 (3, size, size); DataError names a file that is none."""
    try:
        with Image.open(path) as opened:
            opened.draft(
                "RGB", (size, size)
            )  # JPEG is decoded at a reduced size where that suffices
            image = (
                opened.convert("RGBA").convert("RGB")
                if opened.mode == "P"
                else opened.convert("RGB")
            )
            scale = size / min(image.size)
            wide, high = (max(size, round(side * scale)) for side in image.size)
            left, top = (wide - size) // 2, (high - size) // 2
            image = image.resize((wide, high), Image.Resampling.BILINEAR, reducing_gap=2.0)
            square = image.crop((left, top, left + size, top + size))
    except UNREADABLE as error:
        raise DataError(f"{path} is no image that can be read: {error}") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def parted(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """Train and test images: ``share`` of every class, at least one and not all, are test
    images.
    """
    if not 0 < share < 1:
        raise SettingError(
            "test_share", "must lie between 0 and 1 where one folder is split", share
        )
    rng, tests = np.random.default_rng([seed, 0x7E57]), []
    for label in images.labels.unique():
        own = torch.nonzero(images.labels == label)[:, 0]
        if len(own) < 2:
            raise DataError(
                f"class {int(label)} has one image, which cannot be split into train and test"
            )
        count = min(max(1, round(share * len(own))), len(own) - 1)
        tests.append(own[torch.from_numpy(rng.permutation(len(own))[:count])])
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[torch.cat(tests)] = True
    return take(images, torch.nonzero(~chosen)[:, 0]), take(images, torch.nonzero(chosen)[:, 0])
