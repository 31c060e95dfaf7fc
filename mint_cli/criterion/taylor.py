"""First-order change of the loss when a block is removed (Molchanov et al. 2017, arXiv 1611.06440, on blocks of weights)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli import group
from mint_cli.data import images as im
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Estimate, Images, Shapes


def taylor(
    model: nn.Module,
    layers: list[str],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    child_groups: group.Groups,
    parent_groups: group.Groups,
    normalise: bool,
) -> dict[str, Estimate]:
    """|Σ gradient × weight| over the block, per connection, averaged over batches; ``normalise`` as in l1."""
    weights = {name: weighted_layers(model)[name].weight for name in layers}
    labels = {name: group.of_layer(name, *w.shape[:2], child_groups, parent_groups) for name, w in weights.items()}
    index = im.per_class(images, samples_per_class, rng)
    index = index[torch.from_numpy(rng.permutation(len(index)))]
    halves = [
        mean_change(model, weights, labels, images, half, batch_size) for half in (index[: len(index) // 2], index[len(index) // 2 :])
    ]
    estimates = {}
    for name in layers:
        first, second = (scaled(half[name], normalise) for half in halves)
        both = (halves[0][name] + halves[1][name]) / 2
        estimates[name] = Estimate(scaled(both, normalise), (first, second), *labels[name])
    return estimates


def scaled(blocks: Tensor, normalise: bool) -> Tensor:
    """Divide by the root sum of squares if asked (and if it is not zero)."""
    return blocks / blocks.norm().clamp_min(1e-300) if normalise else blocks


def mean_change(model, weights: dict[str, Tensor], labels, images: Images, index: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Mean over batches of the absolute first-order change of the loss, per block: (child groups, parent groups)."""
    changes = {name: 0.0 for name in weights}
    batches = index.split(batch_size)
    for chunk in batches:
        pixels = im.plain(images, chunk)
        loss = nn.functional.cross_entropy(model(pixels), images.labels[chunk.to(pixels.device)])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            cells = (weight.detach() * gradient).flatten(2).sum(2) if weight.ndim > 2 else weight.detach() * gradient
            changes[name] = changes[name] + group.block_mean(cells, *labels[name]).abs() / len(batches)
    return changes


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Groups within the channels, samples within the classes."""
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
    im.check_per_class(labels, settings["samples_per_class"])
