"""First-order change of each image's loss when a channel goes (Molchanov et al. 2017, eq. 8)."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network import maps
from mint_cli.protocol import Cells, Estimate, Images, Tensors, checked_by


@checked_by(maps.check)
def taylor_activation(
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
    """Mean over images of |mean over positions of gradient × activation|, plain pixels.

    Activations are those that the channel's readers see.  Where there are several, their means are
    summed before the absolute value: the loss changes by all of them together.  ``normalise`` as in
    l1.
    """
    parts = im.halves(images, samples_per_class, rng)

    def total(index: Tensor) -> Tensors:
        return absolute(model, cells, images, index, batch_size)

    return maps.estimates(*maps.averaged(total, parts), normalise)


def absolute(
    model: nn.Module, cells: dict[str, Cells], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Sum over images of the absolute changes, (cells,) a site."""
    found: Tensors = dict.fromkeys(cells, 0.0)
    for _, x, labels in maps.labelled(model, images, index, batch_size):
        for site, change in maps.changes(model, cells, x, labels).items():
            found[site] = found[site] + change.abs().sum(0)
    return found
