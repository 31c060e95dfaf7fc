"""Street View House Numbers (Netzer et al. 2011): 32×32 colour images, downloaded when absent."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from mint_cli.data import files
from mint_cli.data.images import split
from mint_cli.errors import DataError, first_line
from mint_cli.protocol import Images, Splits

PARTS = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
CLASSES, SIDE, MOST = 10, 32, 100_000  # most: images a file
LARGEST = MOST * (3 * SIDE * SIDE + 8) + 2**16  # bytes: pixels, a label of 8 bytes each, headers
HEADER, TAG, COMPRESSED = 128, struct.Struct("<II"), 15  # of MATLAB's level 5 files


def svhn(
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
    """The cropped digits with ``validation`` of the 73,257 training images held out."""
    folder = Path(root)
    if not all([files.present(folder / name) for name in PARTS.values()]):
        download(folder)
    train, test = (read(folder / name) for name in PARTS.values())
    train = Images(train.pixels, train.labels, padding, flip)
    return split(train, test, CLASSES, validation, seed, mean, std)


def download(root: Path) -> None:
    """Let torchvision fetch the files; DataError says which files are expected where."""
    import torchvision

    try:
        for part in PARTS:
            torchvision.datasets.SVHN(root, split=part, download=True)
    except (RuntimeError, OSError) as error:
        names = ", ".join(PARTS.values())
        raise DataError(
            f"SVHN is not in {root} and could not be downloaded; expected there: {names}"
        ) from error


def read(path: Path) -> Images:
    """The images of a file; DataError names one that cannot be used."""
    content = files.read(path, LARGEST)
    try:
        pixels, labels = arrays(unpacked(content))
    except Exception as error:  # scipy raises whatever a damaged header leads it to
        raise DataError(f"{path} is damaged: {first_line(error)}") from error
    pixels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
    return Images(pixels, torch.from_numpy(labels % CLASSES))  # the digit 0 bears the label 10


def unpacked(content: bytes) -> bytes:
    """A MATLAB file of level 5 with nothing compressed; ValueError if it would grow too large.

    scipy alone would unpack as much as a file asks for.
    """
    if content[126:HEADER] != b"IM":
        raise ValueError("it is no MATLAB file of level 5 in little-endian order")
    made, at = bytearray(content[:HEADER]), HEADER
    while at < len(content):
        kind, size = TAG.unpack_from(content, at)
        start, end = at + TAG.size, at + TAG.size + size
        if end > len(content):
            raise ValueError("it ends in the middle of an element")
        if kind == COMPRESSED:
            made += inflated(content[start:end], LARGEST - len(made))
        else:
            made += content[at:end]
        at = end
    return bytes(made)


def inflated(body: bytes, most: int) -> bytes:
    """The bytes of one zlib stream; ValueError for more than ``most``."""
    stream = zlib.decompressobj()
    raw = stream.decompress(body, max(0, most) + 1)
    if len(raw) > most:
        raise ValueError(f"it unpacks to more than the {LARGEST:,} bytes that it can have")
    if not stream.eof:
        raise ValueError("it ends in the middle of a compressed element")
    return raw


def arrays(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels X, uint8 (32, 32, 3, n), and labels y, int64 (n,), of a file without compression.

    ValueError if they are not those of SVHN; shapes are compared before anything is read.
    """
    from scipy.io import loadmat, whosmat

    found = {name: (shape, kind) for name, shape, kind in whosmat(io.BytesIO(content))}
    shape, kind = found.get("X", ((), "none"))
    if kind != "uint8" or len(shape) != 4 or shape[:3] != (SIDE, SIDE, 3):
        raise ValueError(f"its X must be uint8 (32, 32, 3, n), not {kind} {shape}")
    count = shape[3]
    if not 1 <= count <= MOST:
        raise ValueError(f"it has {count} images, which must be 1 to {MOST}")
    shape, kind = found.get("y", ((), "none"))
    if kind not in ("uint8", "double") or shape != (count, 1):
        raise ValueError(f"its y must be numbers ({count}, 1), not {kind} {shape}")
    held = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    labels = held["y"][:, 0]
    if not np.isin(labels, np.arange(1, CLASSES + 1)).all():
        raise ValueError(f"its labels must be whole numbers from 1 to {CLASSES}")
    return held["X"], labels.astype(np.int64)
