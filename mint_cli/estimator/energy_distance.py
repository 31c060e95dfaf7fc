"""How far classes lie apart by the energy distance (Székely & Rizzo 2013; arXiv 2201.11209)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from mint_cli.kernel.labelled import from_classes, labelled
from mint_cli.protocol import Estimate


def energy_distance(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    per_dimension: bool,
) -> Estimate:
    """Largest 2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖ of a class to the largest class, (child groups,
    1).

    In units of the features; 0 only where the distributions are the same.  Means run over all
    pairs. ``per_dimension`` divides by the root of a group's channels.
    """
    x, labels = labelled(child, parent, child_groups)
    return from_classes(partial(largest, per_dimension=per_dimension), x, labels, rng)


energy_distance.of_classes = True  # its parent is the class


def largest(x: Tensor, labels: Tensor, per_dimension: bool) -> float:
    """The largest energy distance of a class of features (n, d) to the largest class, the first of
    equal ones.
    """
    parts = [x[labels == label] for label in range(int(labels.max()) + 1)]
    reference = max(range(len(parts)), key=lambda i: len(parts[i]))
    within = [float(apart(part, part)) for part in parts]
    found = [
        2 * float(apart(part, parts[reference])) - within[i] - within[reference]
        for i, part in enumerate(parts)
        if i != reference
    ]
    return max(found) / (x.shape[1] ** 0.5 if per_dimension else 1.0)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """Mean distance of rows of two samples, some rows after others."""
    exact = "donot_use_mm_for_euclid_dist"
    parts = [torch.cdist(rows, other, compute_mode=exact).sum() for rows in one.split(256)]
    return torch.stack(parts).sum() / (len(one) * len(other))
