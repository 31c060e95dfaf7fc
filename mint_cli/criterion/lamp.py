"""Layer-adaptive magnitude (LAMP: Lee et al. 2021, arXiv 2010.07611, eq. 4) at any granularity."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.network.cells import mean, parameters_of, summed
from mint_cli.protocol import Cells, Estimate, Images


def lamp(
    model: nn.Module, cells: dict[str, Cells], images: Images, rng: np.random.Generator, /
) -> dict[str, Estimate]:
    """A cell's mean square weight over the sum of squares of all weights of its site in cells that
    are not smaller.

    The sum runs over weights, so that scores compare sites whose cells differ in size: a cell
    scores what every weight of it would, had they all its mean square.
    """
    estimates = {}
    for site, own in cells.items():
        squares = {
            name: p.detach().double().square() for name, p in parameters_of(model, own).items()
        }
        estimates[site] = Estimate(share_of_larger(mean(own, squares), summed(own, squares)))
    return estimates


def share_of_larger(means: Tensor, sums: Tensor) -> Tensor:
    """Every mean over the sum of ``sums`` of itself and those that come after it from the lowest
    mean on; 0 of 0 is 0.
    """
    order = means.flatten().sort(stable=True).indices
    rest = sums.flatten()[order].flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(rest)
    scores[order] = means.flatten()[order] / rest.clamp_min(torch.finfo(rest.dtype).tiny)
    return scores.view_as(means)
