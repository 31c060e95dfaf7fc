"""Samples with their classes: what estimators of information with the class share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import DataError
from mint_cli.kernel.sample import Side, side
from mint_cli.protocol import Estimate

LEAST = 4  # samples of a class: two in each half


def labelled(child: Tensor, parent: Tensor, child_groups: Tensor) -> tuple[Side, Tensor]:
    """Channels group after group, and the class of every row, int64 from 0 on.

    ``parent`` is one column of class numbers.  Raises DataError for any other, for rows unequal in
    number, and for fewer than two classes or four samples of one.
    """
    if len(child) != len(parent):
        raise DataError(
            f"features and classes must be the same samples, not {len(child)} and {len(parent)}"
        )
    numbers = parent.flatten().cpu()
    if parent.shape != (len(parent), 1) or not bool((numbers == numbers.round()).all()):
        raise DataError("information with the class needs one column of class numbers")
    classes, labels, counts = numbers.unique(return_inverse=True, return_counts=True)
    if len(classes) < 2 or counts.min() < LEAST:
        least = int(counts.min())
        raise DataError(
            f"information with the class needs two classes of {LEAST} samples, "
            f"not {len(classes)} of {least}"
        )
    return side(child, child_groups, "features"), labels


def from_classes(
    estimate: Callable[[Tensor, Tensor], float], x: Side, labels: Tensor, rng: np.random.Generator
) -> Estimate:
    """Estimate of every group from all rows, (groups, 1); each half sees a random half of every
    class.
    """
    parts: list[list[Tensor]] = [[], []]
    for label in range(int(labels.max()) + 1):
        own = (labels == label).nonzero()[:, 0]
        for half, part in zip(
            parts, own[torch.from_numpy(rng.permutation(len(own)))].chunk(2), strict=True
        ):
            half.append(part)

    def table(rows: Tensor) -> Tensor:
        values, own = x.values[rows], labels[rows]
        scores = [estimate(values[:, group], own) for group in x.slices()]
        return torch.tensor(scores, dtype=torch.float64)[:, None]

    first, second = (table(torch.cat(half)) for half in parts)
    return Estimate(table(torch.arange(len(labels))), (first, second))
