"""MINT's criterion: information between each child and each parent group given the other parent groups of the layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor, nn

from mint_cli import group
from mint_cli.data import images as im
from mint_cli.network.layers import activations, patches, weighted_layers
from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Estimate, Images, Shapes

FEATURES = ("means", "patches")


def conditional_information(
    model: nn.Module,
    layers: list[str],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    child_groups: group.Groups,
    parent_groups: group.Groups,
    features: str,
    estimator: partial,
) -> dict[str, Estimate]:
    """The estimator on one set of images for both sides of a layer, drawn per class without replacement.

    ``features``: ``means`` = every channel averaged over space, one row an image; ``patches`` = the input patch of one
    random output position an image (kernel size × channels values) and the output there.
    """
    index = im.per_class(images, samples_per_class, rng)
    modules, estimates = weighted_layers(model), {}
    sampled = activations(model, layers, images, index) if features == "means" else patches(model, layers, images, index, rng)
    for name, (parent, child) in sampled.items():
        out, entering = modules[name].weight.shape[:2]
        labels = group.of_layer(name, out, entering, child_groups, parent_groups)
        columns = labels[1].repeat_interleave(parent.shape[1] // entering)
        estimates[name] = replace(
            named(name, estimator, child, parent, labels[0], columns, rng), child_groups=labels[0], parent_groups=labels[1]
        )
    return estimates


def named(layer: str, estimator: partial, *arguments) -> Estimate:
    """The estimate of a layer; whatever is wrong with its activations is told with the layer's name."""
    try:
        return estimator(*arguments)
    except DataError as error:
        raise DataError(f"layer {layer}: {error}") from error


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Groups within the channels, samples within the classes, features among the known."""
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
    im.check_per_class(labels, settings["samples_per_class"])
    if settings["features"] not in FEATURES:
        raise SettingError(f"pruner.criterion.features must be one of {', '.join(FEATURES)}, not {settings['features']}")
