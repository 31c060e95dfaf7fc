"""MNIST and Fashion-MNIST: 28×28 grey images from the four idx files, downloaded by torchvision when absent."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from mint_cli.data.images import split
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits

VARIANTS = ("MNIST", "FashionMNIST")
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def mnist(root: Path, /, *, variant: str, validation: int, seed: int, mean: list[float], std: list[float]) -> Splits:
    """MNIST (``variant`` MNIST) or Fashion-MNIST (FashionMNIST) with ``validation`` of the 60,000 training images held out."""
    if variant not in VARIANTS:
        raise SettingError(f"dataset.variant must be one of {', '.join(VARIANTS)}, not {variant}")
    folder = Path(root) / variant / "raw"
    if not all(file_of(folder, part) for part in PARTS):
        download(Path(root), variant, folder)
    arrays = [read_idx(file_of(folder, part)) for part in PARTS]
    train, test = (Images(arrays[i][:, None], arrays[i + 1].long()) for i in (0, 2))
    return split(train, test, 10, validation, seed, mean, std)


def file_of(folder: Path, part: str) -> Path | None:
    """The file of a part, plain or gzipped, or None."""
    return next((p for p in (folder / f"{part}-ubyte", folder / f"{part}-ubyte.gz") if p.exists()), None)


def download(root: Path, variant: str, folder: Path) -> None:
    """Let torchvision fetch the files; DataError says which files are expected where."""
    import torchvision

    try:
        getattr(torchvision.datasets, variant)(root, download=True)
    except (RuntimeError, OSError) as error:
        names = ", ".join(f"{part}-ubyte" for part in PARTS)
        raise DataError(f"{variant} is not in {folder} and could not be downloaded; expected there: {names}") from error


def read_idx(path: Path) -> torch.Tensor:
    """Read an idx file of unsigned bytes; DataError names a damaged file."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        _, kind, axes = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
        if kind != 8 or len(raw) != 4 + 4 * axes + int(np.prod(shape)):
            raise ValueError("its length does not fit its header")
        return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
    except (ValueError, struct.error, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
