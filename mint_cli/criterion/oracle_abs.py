"""Size of the change of the loss when a channel alone is removed (Molchanov et al. 2017)."""

from __future__ import annotations

import numpy as np
from torch import nn

from mint_cli.criterion.oracle_loss import loss_changes
from mint_cli.data import images as im
from mint_cli.network import maps
from mint_cli.protocol import Cells, Estimate, Images, checked_by


@checked_by(maps.check)
def oracle_abs(
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
    """|mean loss without a channel − mean loss with it|, in nats; else as ``oracle_loss``."""
    parts = im.halves(images, samples_per_class, rng)
    whole, halves = loss_changes(model, cells, images, parts, batch_size)
    absolute = [{site: own.abs() for site, own in side.items()} for side in (whole, *halves)]
    return maps.estimates(absolute[0], tuple(absolute[1:]), normalise)
