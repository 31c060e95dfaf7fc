"""CIFAR-100: 32×32 colour images of 100 classes from two Python batches, downloaded when absent."""

from __future__ import annotations

from pathlib import Path

from mint_cli.data.images import split
from mint_cli.dataset.cifar10 import Batches, read
from mint_cli.protocol import Images, Splits

CIFAR100 = Batches(
    title="CIFAR-100",
    torchvision="CIFAR100",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    labels=b"fine_labels",
    classes=100,
    most=50_000,
)


def cifar100(
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
    """CIFAR-100 with its fine labels, ``validation`` of the 50,000 training images held out.

    ``subset`` keeps only so many of each of train and test, the first of every class, as equal in
    number as can be: every class stays, if ``subset`` is at least 100.
    """
    train, test = read(CIFAR100, Path(root), subset)
    train = Images(train.pixels, train.labels, padding, flip)
    return split(train, test, CIFAR100.classes, validation, seed, mean, std)
