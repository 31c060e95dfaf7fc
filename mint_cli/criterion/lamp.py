"""Layer-adaptive magnitude (LAMP: Lee et al. 2021, arXiv 2010.07611, eq. 4, on blocks of weights)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli import group
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Estimate, Images, Shapes


def lamp(
    model: nn.Module,
    layers: list[str],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    child_groups: group.Groups,
    parent_groups: group.Groups,
) -> dict[str, Estimate]:
    """A block's mean square weight over the sum of those of its layer that are not smaller: in (0, 1], 1 for the largest."""
    modules, estimates = weighted_layers(model), {}
    for name in layers:
        weight = modules[name].weight.detach()
        child, parent = group.of_layer(name, *weight.shape[:2], child_groups, parent_groups)
        squares = group.block_mean(weight.double().square(), child, parent)
        estimates[name] = Estimate(share_of_larger(squares), None, child, parent)
    return estimates


def share_of_larger(squares: Tensor) -> Tensor:
    """Every entry over the sum of itself and those that come after it from the lowest on; 0 where all of these are 0."""
    values, order = squares.flatten().sort(stable=True)
    rest = values.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(rest)
    scores[order] = values / rest.clamp_min(torch.finfo(rest.dtype).tiny)
    return scores.view_as(squares)


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Groups within the channels of every layer."""
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
