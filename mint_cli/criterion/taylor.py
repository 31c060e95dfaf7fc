"""First-order change of the loss when a cell is removed (Molchanov et al. 2017, arXiv 1611.06440,
on weights).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network.cells import mean, parameters_of, unit
from mint_cli.network.layers import differentiable, differentiated
from mint_cli.protocol import Cells, Estimate, Images, Layer, Tensors, checked_by


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    samples_per_class: int,
    **settings,
) -> None:
    """Samples within the classes."""
    im.check_per_class(labels, samples_per_class)


@checked_by(check)
def taylor(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    normalise: bool,
) -> dict[str, Estimate]:
    """|Σ gradient × weight| over the cell, per weight, averaged over batches; ``normalise`` as in
    l1.
    """
    parts = im.halves(images, samples_per_class, rng)
    halves = [mean_change(model, cells, images, part, batch_size) for part in parts]
    estimates = {}
    for site in cells:
        first, second = (half[site] for half in halves)
        both = (first + second) / 2
        parts = (both, first, second)
        score, *sides = (unit(part) for part in parts) if normalise else parts
        estimates[site] = Estimate(score, tuple(sides))
    return estimates


def mean_change(
    model: nn.Module, cells: dict[str, Cells], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Mean over batches of the absolute first-order change of the loss per weight of every cell:
    each the cells' shape.
    """
    weights = {name: p for own in cells.values() for name, p in parameters_of(model, own).items()}
    changes: Tensors = dict.fromkeys(cells, 0.0)
    batches = index.split(batch_size)
    for chunk, pixels in zip(batches, im.plains(images, batches), strict=True):
        with differentiable(weights.values()), differentiated():
            loss = nn.functional.cross_entropy(
                model(pixels), images.labels[chunk.to(pixels.device)]
            )
            gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        products = {
            name: w.detach() * g for (name, w), g in zip(weights.items(), gradients, strict=True)
        }
        for site, own in cells.items():
            change = mean(own, {n: products[n] for n in own.labels if n in products})
            changes[site] = changes[site] + change.abs() / len(batches)
    return changes
