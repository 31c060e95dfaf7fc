"""Mean absolute weight of a cell (Li et al. 2017, arXiv 1608.08710, at any granularity)."""

from __future__ import annotations

import numpy as np
from torch import nn

from mint_cli.network.cells import mean, parameters_of, unit
from mint_cli.protocol import Cells, Estimate, Images


def l1(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    normalise: bool,
) -> dict[str, Estimate]:
    """Mean of |w| over every cell; ``normalise`` divides each site's scores by their root sum of
    squares.
    """
    estimates = {}
    for site, own in cells.items():
        score = mean(own, {name: p.abs() for name, p in parameters_of(model, own).items()})
        estimates[site] = Estimate(unit(score) if normalise else score)
    return estimates
