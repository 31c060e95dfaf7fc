"""Mean absolute weight of a block (Li et al. 2017, arXiv 1608.08710, at MINT's granularity)."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli import group
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Estimate, Images, Shapes


def l1(
    model: nn.Module,
    layers: list[str],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    child_groups: group.Groups,
    parent_groups: group.Groups,
    normalise: bool,
) -> dict[str, Estimate]:
    """Mean of |w| over every block; ``normalise`` divides each layer's scores by their root sum of squares."""
    modules, estimates = weighted_layers(model), {}
    for name in layers:
        weight = modules[name].weight.detach()
        child, parent = group.of_layer(name, *weight.shape[:2], child_groups, parent_groups)
        blocks = group.block_mean(weight.abs(), child, parent)
        estimates[name] = Estimate(blocks / blocks.norm() if normalise else blocks, None, child, parent)
    return estimates


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Groups within the channels of every layer."""
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
