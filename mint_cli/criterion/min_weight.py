"""Mean squared weight of what makes a channel (Molchanov et al. 2017, arXiv 1611.06440)."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli.network.cells import check_filters, mean, unit
from mint_cli.network.idle import sides
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by


def check(
    layers: dict[str, Layer], cells: dict[str, Cells], labels: Tensor, /, *, normalise: bool
) -> None:
    """Whole channels."""
    check_filters(cells)


@checked_by(check)
def min_weight(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    normalise: bool,
) -> dict[str, Estimate]:
    """Mean of w² over the rows of all layers that make a channel, biases left out.

    ``normalise`` as in l1.
    """
    modules, estimates = dict(model.named_modules()), {}
    for site, own in cells.items():
        rows = {f"{name}.weight": labels for name, labels in sides(own, modules)[1].items()}
        squares = {name: model.get_parameter(name).detach().double().square() for name in rows}
        score = mean(Cells(own.shape, rows), squares)
        estimates[site] = Estimate(unit(score) if normalise else score)
    return estimates
