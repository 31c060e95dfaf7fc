"""Batches of images as networks take them: floats in [0, 1], plain or after the transform."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from mint_cli.data.stored import Stored
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Images, Splits


def to(images: Images, device: torch.device | str) -> Images:
    """The same images with pixels and labels on ``device``."""
    return replace(images, pixels=images.pixels.to(device), labels=images.labels.to(device))


def take(images: Images, index: Tensor) -> Images:
    """The images of ``index``, with the same transform."""
    index, pixels = index.to(images.pixels.device), images.pixels
    chosen = pixels.take(index) if isinstance(pixels, Stored) else pixels[index]
    return replace(images, pixels=chosen, labels=images.labels[index])


def batches(images: Images, indices: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pixels, uint8 (len(index), c, h, w), of one batch of images after another, wherever they lie.

    All that looks at pixels gets them here.  Those in files are read ahead.
    """
    if isinstance(images.pixels, Stored):
        yield from images.pixels.batches(indices)
    else:
        yield from (images.pixels[index.to(images.pixels.device)] for index in indices)


def plains(images: Images, indices: Iterable[Tensor]) -> Iterator[Tensor]:
    """Pixels in [0, 1], float32 (len(index), c, h, w), batch by batch, without the transform."""
    return (pixels.float().div_(255) for pixels in batches(images, indices))


def plain(images: Images, index: Tensor) -> Tensor:
    """Pixels in [0, 1], float32 (len(index), c, h, w), without the training transform."""
    return next(plains(images, [index]))


Draws = tuple[Tensor, Tensor, Tensor] | None


def draw(images: Images, count: int, rng: np.random.Generator) -> Draws:
    """Random crops and flips of ``count`` images; None where there is no transform.

    Top and left (int64) and flipped (bool), (count,) each.  Drawn on the CPU, so that the transform
    depends on the seed only, and moved to the device of the images at once.
    """
    if not images.padding and not images.flip:
        return None
    top, left = torch.from_numpy(rng.integers(0, 2 * images.padding + 1, (2, count)))
    flipped = torch.from_numpy(rng.random(count) < 0.5) & images.flip
    return tuple(t.to(images.pixels.device) for t in (top, left, flipped))


def transformed(pixels: Tensor, pad: int, draws: Draws) -> Tensor:
    """Pixels in [0, 1] after ``draws``: crops from a black border, then left-right flips.

    The border is black before normalisation, as in training: statistics taken with any other border
    are biased.
    """
    if draws is None:
        return pixels.float().div_(255)
    device, (h, w) = pixels.device, pixels.shape[-2:]
    top, left, flipped = draws
    rows = top[:, None] + torch.arange(h, device=device)
    columns = torch.arange(w, device=device).expand(len(left), w)
    columns = left[:, None] + torch.where(flipped[:, None], w - 1 - columns, columns)
    padded = torch.nn.functional.pad(pixels, (pad, pad, pad, pad))
    n = torch.arange(len(left), device=device)[:, None, None]
    picked = padded[n, :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c): channels last
    return picked.permute(0, 3, 1, 2).float().div_(255)


def views(images: Images, indices: Sequence[Tensor], draws: Draws) -> Iterator[Tensor]:
    """Pixels in [0, 1] after ``draws``, which are those of all batches one after another."""
    sizes = [len(index) for index in indices]
    own = zip(*(drawn.split(sizes) for drawn in draws), strict=True) if draws else repeat(None)
    for pixels, drawn in zip(batches(images, indices), own, strict=False):
        yield transformed(pixels, images.padding, drawn)


def augmentations(
    images: Images, indices: Sequence[Tensor], rng: np.random.Generator
) -> Iterator[Tensor]:
    """Pixels in [0, 1] after the training transform, drawn anew for every batch in its turn."""
    for index, pixels in zip(indices, batches(images, indices), strict=True):
        yield transformed(pixels, images.padding, draw(images, len(index), rng))


def per_class(images: Images, count: int, rng: np.random.Generator) -> Tensor:
    """Indices of ``count`` images of each class, drawn without replacement.

    int64 (classes × count,), classes in order.
    """
    targets = images.labels.cpu().numpy()
    members = (np.flatnonzero(targets == c) for c in np.unique(targets))
    return torch.from_numpy(np.concatenate([rng.choice(m, count, replace=False) for m in members]))


def halves(images: Images, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Indices of ``count`` images of each class in two random halves, int64."""
    index = per_class(images, count, rng)
    index = index[torch.from_numpy(rng.permutation(len(index)))]
    middle = len(index) // 2
    return index[:middle], index[middle:]


def check_per_class(labels: Tensor, samples_per_class: int) -> None:
    """SettingError unless every class has that many training images."""
    counts = labels.bincount()
    fewest = int(counts.min())
    if not fewest:
        missing = int(counts.argmin())
        bound = f"needs training images of every class, and there is none of class {missing}"
        raise SettingError("samples_per_class", bound)
    if not 1 <= samples_per_class <= fewest:
        bound = f"must lie between 1 and {fewest}, the training images of the smallest class"
        raise SettingError("samples_per_class", bound, samples_per_class)


def first(images: Images, count: int) -> Images:
    """The first images of every class, as equal in number as can be, in the order they have.

    ``count`` images in all, or all there are.  A class with fewer than its share gives all it has;
    from as many images as there are classes on, each has one.
    """
    targets = images.labels.cpu().numpy()
    place = np.empty(len(targets), np.int64)  # of an image among those of its class
    for c in np.unique(targets):
        members = np.flatnonzero(targets == c)
        place[members] = np.arange(len(members))
    chosen = np.argsort(place, kind="stable")[:count]
    return take(images, torch.from_numpy(np.sort(chosen)))


LEFT = 2  # images that must be left to train with: one alone has neither order nor batch


def split(
    train: Images,
    test: Images,
    classes: int,
    validation: int,
    seed: int,
    mean: list[float],
    std: list[float],
) -> Splits:
    """Hold ``validation`` random images out of ``train``; only train keeps its transform.

    The choice is fixed by ``seed``.  SettingError names what is out of its bounds.
    """
    check_transform(train)
    check_normalisation(mean, std, train.pixels.shape[1])
    if seed < 0:
        raise SettingError("seed", "must be at least 0", seed)
    if len(train) < LEFT:
        raise DataError(f"training needs at least {LEFT} images, and there are {len(train)}")
    if not 0 <= validation <= len(train) - LEFT:
        bound = f"must lie between 0 and {len(train) - LEFT} of the {len(train)} training images"
        raise SettingError("validation", bound, validation)
    order = torch.from_numpy(np.random.default_rng([seed, 0x5917]).permutation(len(train)))
    held = replace(take(train, order[:validation].sort().values), padding=0, flip=False)
    kept = take(train, order[validation:].sort().values)
    return Splits(kept, held, test, classes, tuple(mean), tuple(std))


def check_transform(images: Images) -> None:
    """SettingError unless every crop has a row and a column of its image in it."""
    most = min(images.pixels.shape[-2:]) - 1
    if type(images.padding) is not int or not 0 <= images.padding <= most:
        bound = f"must be a whole number from 0 to {most}, below the side of an image"
        raise SettingError("padding", bound, images.padding)
    if type(images.flip) is not bool:
        raise SettingError("flip", "must be true or false", images.flip)


def check_normalisation(mean: list[float], std: list[float], channels: int) -> None:
    """SettingError unless pixels in [0, 1] stay of a size that float32 resolves."""
    for name, values, least in (("mean", mean, -1e6), ("std", std, 1e-6)):
        numbers = isinstance(values, list | tuple) and all(
            isinstance(value, int | float) and least <= value <= 1e6 for value in values
        )
        if not numbers or len(values) != channels:
            bound = f"must be numbers from {least:g} to 1e+06, one for each channel ({channels})"
            raise SettingError(name, bound, values)
