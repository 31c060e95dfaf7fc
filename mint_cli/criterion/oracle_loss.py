"""Measured change of the loss when a channel alone is removed (Molchanov et al. 2017)."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network import maps
from mint_cli.network.removal import COPIES, Removals
from mint_cli.protocol import Cells, Estimate, Images, Tensors, checked_by
from mint_cli.solver.progress import once


@checked_by(maps.check)
def oracle_loss(
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
    """Mean loss without a channel minus the mean loss with it, in nats; below 0 if it gets better.

    Plain training images, ``batch_size`` of them for each of several channels in one pass;
    ``normalise`` as in l1.
    """
    parts = im.halves(images, samples_per_class, rng)
    return maps.estimates(*loss_changes(model, cells, images, parts, batch_size), normalise)


def loss_changes(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    parts: tuple[Tensor, Tensor],
    batch_size: int,
) -> tuple[Tensors, tuple[Tensors, Tensors]]:
    """Mean changes of the loss on both parts of the images, and on either: (cells,) a site each."""
    return maps.averaged(lambda index: total(model, cells, images, index, batch_size), parts)


def total(
    model: nn.Module, cells: dict[str, Cells], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Sum over images of the changes, float64 (cells,) a site; what is finished of it is kept."""
    found: Tensors = dict.fromkeys(cells, 0.0)
    for chunk, x, labels in maps.labelled(model, images, index, batch_size):
        removals = Removals(model, cells, x, labels, COPIES)
        for site in removals.in_order():
            own = once(f"{site} {chunk.tolist()}", partial(changes, removals, site))
            found[site] = found[site] + own["changes"]
    return found


def changes(removals: Removals, site: str) -> Tensors:
    """Sum over the images of a batch of what their losses gain without every channel of a site."""
    losses, _ = removals.without(site)
    dense, _ = removals.dense()
    return {"changes": (losses.double() - dense.double()).sum(1)}
