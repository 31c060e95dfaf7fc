"""Random scores: the control that every table needs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli import group
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Estimate, Images, Shapes


def random(
    model: nn.Module,
    layers: list[str],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    child_groups: group.Groups,
    parent_groups: group.Groups,
) -> dict[str, Estimate]:
    """The mean of two uniform numbers per block of connections; each is a half, so that their agreement shows what noise agrees by."""
    modules, estimates = weighted_layers(model), {}
    for name in layers:
        child, parent = group.of_layer(name, *modules[name].weight.shape[:2], child_groups, parent_groups)
        halves = tuple(torch.from_numpy(rng.random((int(child.max()) + 1, int(parent.max()) + 1))) for _ in range(2))
        estimates[name] = Estimate(sum(halves) / 2, halves, child, parent)
    return estimates


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Groups within the channels of every layer."""
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
