"""CIFAR-10: 32×32 colour images from the six Python batches, downloaded when absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mint_cli.data import files
from mint_cli.data.images import first, split
from mint_cli.data.pickled import plain
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits

SIZE = 3 * 32 * 32  # bytes of an image


@dataclass(frozen=True)
class Batches:
    """Where the batches of a data set lie, and what each of them holds."""

    title: str
    torchvision: str  # name of torchvision's class, which can fetch them
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: bytes  # name of the labels in a batch
    classes: int
    most: int  # images of one batch

    @property
    def largest(self) -> int:
        """Bytes that a file can have: pixels, and 100 for the labels and the name of an image."""
        return self.most * (SIZE + 100)


CIFAR10 = Batches(
    title="CIFAR-10",
    torchvision="CIFAR10",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test=("test_batch",),
    labels=b"labels",
    classes=10,
    most=10_000,
)


def cifar10(
    root: Path,
    /,
    *,
    validation: int,
    subset: int | None,
    seed: int,
    padding: int,
    flip: bool,
    mean: list[float],
    std: list[float],
) -> Splits:
    """CIFAR-10 with ``validation`` of the 50,000 training images held out.

    ``subset`` keeps only so many of each of train and test, the first of every class, as equal in
    number as can be: every class stays, if ``subset`` is at least 10.
    """
    train, test = read(CIFAR10, Path(root), subset)
    train = Images(train.pixels, train.labels, padding, flip)
    return split(train, test, CIFAR10.classes, validation, seed, mean, std)


def read(batches: Batches, root: Path, subset: int | None) -> tuple[Images, Images]:
    """Training and test images, or the first ``subset`` of each, downloaded when absent."""
    folder = root / batches.folder
    if not all([files.present(folder / name) for name in batches.train + batches.test]):
        download(batches, root)
    train, test = (joined(batches, folder, names) for names in (batches.train, batches.test))
    if subset is None:
        return train, test
    if not 2 <= subset <= len(train):
        raise SettingError("subset", f"must be null or lie between 2 and {len(train)}", subset)
    return first(train, subset), first(test, subset)


def download(batches: Batches, root: Path) -> None:
    """Let torchvision fetch the files; DataError says which files are expected where."""
    import torchvision

    try:
        getattr(torchvision.datasets, batches.torchvision)(root, download=True)
    except (RuntimeError, OSError) as error:
        names, place = ", ".join(batches.train + batches.test), root / batches.folder
        raise DataError(
            f"{batches.title} is not in {place} and could not be downloaded; "
            f"expected there: {names}"
        ) from error


def joined(batches: Batches, folder: Path, names: Sequence[str]) -> Images:
    """The images of the named batches, in order; DataError names a file that cannot be used."""
    found = [read_batch(batches, folder / name) for name in names]
    pixels, labels = (torch.from_numpy(np.concatenate(side)) for side in zip(*found, strict=True))
    return Images(pixels.view(-1, 3, 32, 32), labels)


def read_batch(batches: Batches, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 (n, 3072), and labels, int64 (n,), of one batch."""
    content = files.read(path, batches.largest)
    try:
        return arrays(batches, plain(content))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def arrays(batches: Batches, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a batch's content; ValueError if it is not that of a batch."""
    if type(batch) is not dict or not {b"data", batches.labels} <= batch.keys():
        raise ValueError(f"it is no dictionary with data and {batches.labels.decode()}")
    pixels, labels = batch[b"data"], batch[batches.labels]
    if not isinstance(pixels, np.ndarray) or pixels.shape[1] != SIZE:
        raise ValueError(f"its data are no matrix of {SIZE} bytes an image")
    if not 1 <= len(pixels) <= batches.most:
        raise ValueError(f"it has {len(pixels)} images, which must be 1 to {batches.most}")
    if type(labels) is not list or len(labels) != len(pixels):
        raise ValueError(f"its labels are no list of {len(pixels)}, one an image")
    last = batches.classes - 1
    if any(type(label) is not int or not 0 <= label <= last for label in labels):
        raise ValueError(f"its labels must be whole numbers from 0 to {last}")
    return pixels, np.array(labels, np.int64)
