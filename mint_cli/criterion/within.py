"""The quotas of one criterion, the order of another: tells what a score is worth inside layers."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.errors import owned
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    quotas: partial,
    order: partial,
) -> None:
    """What either criterion checks."""
    for name, criterion in (("quotas", quotas), ("order", order)):
        own = getattr(criterion.func, "check", None)
        if own:
            with owned(name):
                own(layers, cells, labels, **criterion.keywords)


@checked_by(check)
def within(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    quotas: partial,
    order: partial,
) -> dict[str, Estimate]:
    """The scores that ``quotas`` gives a site, handed to its cells in the order of ``order``.

    One quota for all sites then takes from each as many cells as by the scores of ``quotas``, where
    cells of a site are of equal size, and those that are lowest in ``order``.
    """
    given = quotas(model, cells, images, rng)
    wanted = order(model, cells, images, rng)
    return {
        site: Estimate(handed_out(own.score, wanted[site].score), additive=own.additive)
        for site, own in given.items()
    }


def handed_out(values: Tensor, order: Tensor) -> Tensor:
    """``values``, the lowest to the cell that is lowest in ``order``, and so on."""
    found = torch.empty_like(values).flatten()
    found[order.flatten().argsort(stable=True)] = values.flatten().sort().values
    return found.view(values.shape)
