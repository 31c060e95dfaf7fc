"""CIFAR-10: 32×32 colour images from the six Python batches, downloaded by torchvision when absent."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import torch

from mint_cli.data.images import split
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits

FOLDER = "cifar-10-batches-py"
TRAIN, TEST = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]
SIZE = 3 * 32 * 32


def cifar10(
    root: Path, /, *, validation: int, subset: int | None, seed: int, padding: int, flip: bool, mean: list[float], std: list[float]
) -> Splits:
    """CIFAR-10 with ``validation`` of the 50,000 training images held out; ``subset`` keeps only so many of each of train and test."""
    if subset is not None and subset < 1:
        raise SettingError(f"dataset.subset must be null or at least 1, not {subset}")
    if padding < 0:
        raise SettingError(f"dataset.padding must be at least 0, not {padding}")
    folder = Path(root) / FOLDER
    if not all((folder / name).exists() for name in TRAIN + TEST):
        download(Path(root), folder)
    train, test = (first(read(folder, names), subset) for names in (TRAIN, TEST))
    return split(Images(*train, padding, flip), Images(*test), 10, validation, seed, mean, std)


def first(images: tuple[torch.Tensor, torch.Tensor], count: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``count`` images and labels (all for None)."""
    return images[0][:count], images[1][:count]


def download(root: Path, folder: Path) -> None:
    """Let torchvision fetch the files; DataError says which files are expected where."""
    import torchvision

    try:
        torchvision.datasets.CIFAR10(root, download=True)
    except (RuntimeError, OSError) as error:
        names = ", ".join(TRAIN + TEST)
        raise DataError(f"CIFAR-10 is not in {folder} and could not be downloaded; expected there: {names}") from error


class PlainUnpickler(pickle.Unpickler):
    """Unpickles what the batches hold, dictionaries of bytes, lists and one uint8 array, and nothing that could run code."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str):
        if (module, name) in self.ALLOWED:
            return self.ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read(folder: Path, names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels uint8 (n, 3, 32, 32) and labels int64 (n,) of the named batches; DataError names a damaged file."""
    batches = [read_batch(folder / name) for name in names]
    return tuple(torch.cat(side) for side in zip(*batches, strict=True))


def read_batch(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and labels of one batch file."""
    try:
        batch = PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), SIZE) or not len(labels):
            raise ValueError(f"{pixels.shape} pixels do not fit {labels.shape} labels")
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{path} is damaged: {error}") from error
    return torch.from_numpy(pixels.reshape(-1, 3, 32, 32)), torch.from_numpy(labels.astype(np.int64))
