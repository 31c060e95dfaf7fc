"""Batches of images as the network takes them: float in [0, 1], plain or after the training transform."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.protocol import Images, Splits


def to(images: Images, device: torch.device | str) -> Images:
    """The same images with pixels and labels on ``device``."""
    return replace(images, pixels=images.pixels.to(device), labels=images.labels.to(device))


def take(images: Images, index: Tensor) -> Images:
    """The images of ``index``, with the same transform."""
    index = index.to(images.pixels.device)
    return replace(images, pixels=images.pixels[index], labels=images.labels[index])


def plain(images: Images, index: Tensor) -> Tensor:
    """Pixels in [0, 1], float32 (len(index), c, h, w), without the training transform."""
    return images.pixels[index.to(images.pixels.device)].float().div_(255)


Draws = tuple[Tensor, Tensor, Tensor] | None


def draw(images: Images, count: int, rng: np.random.Generator) -> Draws:
    """Random crops and flips of ``count`` images: top, left (int64) and flipped (bool), (count,) each; None without transform.

    Drawn on the CPU, so that the transform depends on the seed only, and moved to the device of the images at once.
    """
    if not images.padding and not images.flip:
        return None
    top, left = torch.from_numpy(rng.integers(0, 2 * images.padding + 1, (2, count)))
    flipped = torch.from_numpy(rng.random(count) < 0.5) & images.flip
    return tuple(t.to(images.pixels.device) for t in (top, left, flipped))


def transformed(images: Images, index: Tensor, draws: Draws) -> Tensor:
    """Pixels in [0, 1] after the crops and flips of ``draws``: crops from a black border, then left-right flips.

    The border is black before normalisation, as in training: statistics taken with any other border are biased.
    """
    if draws is None:
        return plain(images, index)
    device, (h, w), pad = images.pixels.device, images.pixels.shape[-2:], images.padding
    top, left, flipped = draws
    rows, columns = top[:, None] + torch.arange(h, device=device), torch.arange(w, device=device).expand(len(left), w)
    columns = left[:, None] + torch.where(flipped[:, None], w - 1 - columns, columns)
    padded = torch.nn.functional.pad(images.pixels[index.to(device)], (pad, pad, pad, pad))
    n = torch.arange(len(left), device=device)[:, None, None]
    picked = padded[n, :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c): channels last already
    return picked.permute(0, 3, 1, 2).float().div_(255)


def augmented(images: Images, index: Tensor, rng: np.random.Generator) -> Tensor:
    """Pixels in [0, 1] after the training transform, drawn anew."""
    return transformed(images, index, draw(images, len(index), rng))


def per_class(images: Images, count: int, rng: np.random.Generator) -> Tensor:
    """Indices of ``count`` images of each class, drawn without replacement, classes in order: int64 (classes × count,)."""
    targets = images.labels.cpu().numpy()
    return torch.from_numpy(np.concatenate([rng.choice(np.flatnonzero(targets == c), count, replace=False) for c in np.unique(targets)]))


def check_per_class(labels: Tensor, samples_per_class: int) -> None:
    """SettingError unless every class has that many training images."""
    counts = labels.bincount()
    fewest = int(counts.min())
    if not fewest:
        raise SettingError(f"the criterion needs training images of every class, and there is none of class {int(counts.argmin())}")
    if not 1 <= samples_per_class <= fewest:
        raise SettingError(
            f"pruner.samples_per_class must lie between 1 and {fewest}, the training images of the smallest class, not {samples_per_class}"
        )


def split(train: Images, test: Images, classes: int, validation: int, seed: int, mean: list[float], std: list[float]) -> Splits:
    """Hold ``validation`` random images out of ``train``, the choice fixed by ``seed``; only train keeps its transform."""
    channels = train.pixels.shape[1]
    if not len(mean) == len(std) == channels or min(std) <= 0:
        raise SettingError(f"dataset.mean and dataset.std must be {channels} numbers, one a channel, std above 0, not {mean} and {std}")
    if not 0 <= validation < len(train):
        raise SettingError(f"dataset.validation must lie between 0 and {len(train) - 1}, not {validation}")
    order = torch.from_numpy(np.random.default_rng([seed, 0x5917]).permutation(len(train)))
    held = replace(take(train, order[:validation].sort().values), padding=0, flip=False)
    return Splits(take(train, order[validation:].sort().values), held, test, classes, tuple(mean), tuple(std))
