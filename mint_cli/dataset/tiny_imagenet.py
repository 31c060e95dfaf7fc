"""Tiny ImageNet: 64×64 photographs of 200 classes, in the folders that they are published in."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mint_cli.data import files
from mint_cli.data.images import split
from mint_cli.errors import DataError, first_line
from mint_cli.protocol import Images, Splits

FOLDER, SIDE = "tiny-imagenet-200", 64
LARGEST = 2**20  # bytes of an image
LISTED = 2**24  # bytes of the list of labels


def tiny_imagenet(
    root: Path,
    /,
    *,
    validation: int,
    seed: int,
    padding: int,
    flip: bool,
    mean: list[float],
    std: list[float],
) -> Splits:
    """Tiny ImageNet with ``validation`` of the 100,000 training images held out.

    The images of val/ are the test images: those of test/ are published without labels.  Classes
    are the names of the folders below train/, in their order.
    """
    folder = Path(root) / FOLDER
    if not (folder / "train").is_dir():
        raise DataError(
            f"Tiny ImageNet is not in {folder}; expected there: train/ and val/ of "
            "cs231n.stanford.edu/tiny-imagenet-200.zip"
        )
    classes = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    if len(classes) < 2:
        raise DataError(f"{folder / 'train'} must hold a folder for each of two or more classes")
    train, test = images(training(folder, classes)), images(held_out(folder, classes))
    train = Images(train.pixels, train.labels, padding, flip)
    return split(train, test, len(classes), validation, seed, mean, std)


def training(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """The files of train/<class>/images and their labels; DataError for a class without any."""
    found = []
    for label, name in enumerate(classes):
        place = folder / "train" / name / "images"
        own = sorted(place.glob("*.JPEG"))
        if not own:
            raise DataError(f"{place} holds no images (*.JPEG)")
        found += [(path, label) for path in own]
    return found


def held_out(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """The files of val/images and their labels, in the order of val/val_annotations.txt."""
    path, number = folder / "val" / "val_annotations.txt", {n: i for i, n in enumerate(classes)}
    found = {}
    try:
        lines = files.read(path, LISTED).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged: it is no text") from error
    for line, text in enumerate(lines, 1):
        name, label = (text.split("\t") + [""])[:2]
        if label not in number or name in found or not name or "/" in name or "\0" in name:
            bound = "must have the name of one more image and a class of train/"
            raise DataError(f"{path} is damaged: line {line} {bound}")
        found[name] = number[label]
    if not found:
        raise DataError(f"{path} names no images")
    return [(folder / "val" / "images" / name, label) for name, label in found.items()]


def images(labelled: Sequence[tuple[Path, int]]) -> Images:
    """The pixels of files and their labels, in order."""
    pixels = torch.empty(len(labelled), 3, SIDE, SIDE, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        for i, one in enumerate(pool.map(picture, (path for path, _ in labelled))):
            pixels[i] = one
    return Images(pixels, torch.tensor([label for _, label in labelled]))


def picture(path: Path) -> Tensor:
    """One image, uint8 (3, 64, 64), grey ones too; DataError names a file that is none."""
    if files.regular(path) > LARGEST:
        raise DataError(f"{path} has more than {LARGEST:,} bytes")
    try:
        with Image.open(path, formats=["JPEG"]) as opened:
            if opened.size != (SIDE, SIDE):
                wide, high = opened.size
                raise ValueError(f"it has {wide}×{high} pixels, not {SIDE}×{SIDE}")
            return torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is no image that can be read: {first_line(error)}") from error
