"""MNIST and Fashion-MNIST: 28×28 grey images from the four idx files, downloaded when absent."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from mint_cli.data import files
from mint_cli.data.images import split
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits

VARIANTS = ("MNIST", "FashionMNIST")
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
CLASSES, SIDE, MOST = 10, 28, 60_000  # most: images a file


def mnist(
    root: Path,
    /,
    *,
    variant: str,
    validation: int,
    seed: int,
    mean: list[float],
    std: list[float],
) -> Splits:
    """MNIST or Fashion-MNIST with ``validation`` of the 60,000 training images held out.

    ``variant`` is MNIST or FashionMNIST, and the name of the folder.
    """
    if variant not in VARIANTS:
        raise SettingError("variant", f"must be one of {', '.join(VARIANTS)}", variant)
    folder = Path(root) / variant / "raw"
    paths = [file_of(folder, part) for part in PARTS]
    if not all(paths):
        download(Path(root), variant, folder)
        paths = [folder / f"{part}-ubyte" for part in PARTS]
    return split(read(*paths[:2]), read(*paths[2:]), CLASSES, validation, seed, mean, std)


def file_of(folder: Path, part: str) -> Path | None:
    """The file of a part, plain or gzipped, or None."""
    paths = (folder / f"{part}-ubyte", folder / f"{part}-ubyte.gz")
    return next((path for path in paths if files.present(path)), None)


def download(root: Path, variant: str, folder: Path) -> None:
    """Let torchvision fetch the files; DataError says which files are expected where."""
    import torchvision

    try:
        getattr(torchvision.datasets, variant)(root, download=True)
    except (RuntimeError, OSError) as error:
        names = ", ".join(f"{part}-ubyte" for part in PARTS)
        raise DataError(
            f"{variant} is not in {folder} and could not be downloaded; expected there: {names}"
        ) from error


def read(images: Path, labels: Path) -> Images:
    """The images of two idx files; DataError names one that cannot be used."""
    pixels, classes = read_idx(images, (SIDE, SIDE)), read_idx(labels, ())
    if len(pixels) != len(classes):
        raise DataError(f"{images} has {len(pixels)} images, but {labels} {len(classes)} labels")
    if classes.max() >= CLASSES:
        bound = f"its labels must lie between 0 and {CLASSES - 1}"
        raise DataError(f"{labels} is damaged: {bound}, not {classes.max()}")
    return Images(torch.from_numpy(pixels)[:, None], torch.from_numpy(classes.astype(np.int64)))


def read_idx(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """Items of shape ``item`` from an idx file, plain or gzipped: uint8 (n, …).

    No more is read and unpacked than 60,000 items take.  DataError names a damaged file.
    """
    most = len(header(item)) + MOST * math.prod(item)
    content = files.read(path, most + most // 1000 + 1000)  # what gzip cannot shrink it enlarges
    try:
        return parsed(unpacked(content, most) if path.suffix == ".gz" else content, item)
    except (ValueError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def unpacked(content: bytes, most: int) -> bytes:
    """The bytes of one gzip stream, ``most`` at most; ValueError or zlib.error if damaged."""
    stream = zlib.decompressobj(wbits=31)  # 31: gzip's header and check sum
    raw = stream.decompress(content, most + 1)
    if len(raw) > most:
        raise ValueError(f"it unpacks to more than the {most:,} bytes that such a file can have")
    if not stream.eof or stream.unused_data:
        raise ValueError("it is not exactly one whole gzip stream")
    return raw


def header(item: tuple[int, ...], count: int = 0) -> bytes:
    """How an idx file of so many items starts: bytes (8), number of axes, their lengths."""
    axes = (count, *item)
    return struct.pack(f">HBB{len(axes)}I", 0, 8, len(axes), *axes)


def parsed(raw: bytes, item: tuple[int, ...]) -> np.ndarray:
    """The items that follow the header of ``raw``; ValueError if they do not fit it."""
    size = len(header(item))
    count = int.from_bytes(raw[4:8])
    if raw[:size] != header(item, count):
        raise ValueError(f"it starts with {raw[:size].hex()}, not with {header(item, count).hex()}")
    if not 1 <= count <= MOST:
        raise ValueError(f"it has {count:,} items, which must be 1 to {MOST:,}")
    if len(raw) != size + count * math.prod(item):
        raise ValueError(f"{len(raw) - size:,} bytes follow its header, which says {count:,} items")
    return np.frombuffer(raw, np.uint8, offset=size).reshape(count, *item).copy()
