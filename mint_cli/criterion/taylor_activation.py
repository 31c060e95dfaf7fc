"""First-order change of each image's loss when a channel goes (Molchanov et al. 2017, eq. 8)."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network import maps
from mint_cli.network.layers import device_of
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
    totals = [total(model, cells, images, index, batch_size) for index in parts]
    count = [len(index) for index in parts]
    whole = {site: (totals[0][site] + totals[1][site]) / sum(count) for site in cells}
    sides = tuple({s: t[s] / max(n, 1) for s in cells} for t, n in zip(totals, count, strict=True))
    return maps.estimates(whole, sides, normalise)


def total(
    model: nn.Module, cells: dict[str, Cells], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Sum over images of the absolute changes, (cells,) a site."""
    found: Tensors = dict.fromkeys(cells, 0.0)
    for chunk in index.split(batch_size):
        x = im.plain(images, chunk).to(device_of(model))
        labels = images.labels[chunk.to(images.labels.device)].to(x.device)
        for site, change in maps.changes(model, cells, x, labels).items():
            found[site] = found[site] + change.abs().sum(0)
    return found
