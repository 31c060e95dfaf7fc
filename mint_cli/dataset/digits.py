"""The 8×8 digits that come with scikit-learn: 1,797 images, nothing to download."""

from __future__ import annotations

from pathlib import Path

import torch

from mint_cli.data.images import split
from mint_cli.protocol import Images, Splits

TEST = 360  # the last fifth: other writers than the rest


def digits(
    root: Path, /, *, validation: int, seed: int, mean: list[float], std: list[float]
) -> Splits:
    """scikit-learn's digits; ``validation`` images are held out of the 1,437 training images."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (torch.from_numpy(data.images).float() * (255 / 16)).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(data.target).long()
    train, test = Images(pixels[:-TEST], labels[:-TEST]), Images(pixels[-TEST:], labels[-TEST:])
    return split(train, test, 10, validation, seed, mean, std)
