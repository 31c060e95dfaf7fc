"""CIFAR-10: 32×32 colour images from the six Python batches, downloaded when absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mint_cli.data import files
from mint_cli.data.images import first, split
from mint_cli.data.pickled import plain
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits

FOLDER = "cifar-10-batches-py"
TRAIN, TEST = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]
CLASSES, SIZE, BATCH = 10, 3 * 32 * 32, 10_000
LARGEST = BATCH * (SIZE + 100)  # bytes of a file: pixels, and 100 for a label and a name each


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
    folder = Path(root) / FOLDER
    if not all([files.present(folder / name) for name in TRAIN + TEST]):
        download(Path(root), folder)
    train, test = (read(folder, names) for names in (TRAIN, TEST))
    if subset is not None:
        if not 2 <= subset <= len(train):
            raise SettingError("subset", f"must be null or lie between 2 and {len(train)}", subset)
        train, test = first(train, subset), first(test, subset)
    train = Images(train.pixels, train.labels, padding, flip)
    return split(train, test, CLASSES, validation, seed, mean, std)


def download(root: Path, folder: Path) -> None:
    """Let torchvision fetch the files; DataError says which files are expected where."""
    import torchvision

    try:
        torchvision.datasets.CIFAR10(root, download=True)
    except (RuntimeError, OSError) as error:
        names = ", ".join(TRAIN + TEST)
        raise DataError(
            f"CIFAR-10 is not in {folder} and could not be downloaded; expected there: {names}"
        ) from error


def read(folder: Path, names: list[str]) -> Images:
    """The images of the named batches, in order; DataError names a file that cannot be used."""
    batches = [read_batch(folder / name) for name in names]
    pixels, labels = (torch.from_numpy(np.concatenate(side)) for side in zip(*batches, strict=True))
    return Images(pixels.view(-1, 3, 32, 32), labels)


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 (n, 3072), and labels, int64 (n,), of one batch."""
    content = files.read(path, LARGEST)
    try:
        return arrays(plain(content))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def arrays(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a batch's content; ValueError if it is not that of a batch."""
    if type(batch) is not dict or not {b"data", b"labels"} <= batch.keys():
        raise ValueError("it is no dictionary with data and labels")
    pixels, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(pixels, np.ndarray) or pixels.shape[1] != SIZE:
        raise ValueError(f"its data are no matrix of {SIZE} bytes an image")
    if not 1 <= len(pixels) <= BATCH:
        raise ValueError(f"it has {len(pixels)} images, which must be 1 to {BATCH}")
    if type(labels) is not list or len(labels) != len(pixels):
        raise ValueError(f"its labels are no list of {len(pixels)}, one an image")
    wrong = [label for label in labels if type(label) is not int or not 0 <= label < CLASSES]
    if wrong:
        raise ValueError(f"its labels must be whole numbers from 0 to {CLASSES - 1}")
    return pixels, np.array(labels, np.int64)
