"""MINT's criterion: information of child and parent group given the layer's other parent groups."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.errors import DataError, SettingError, owned
from mint_cli.network.cells import is_coupled, is_unit, only_weight, rectangles
from mint_cli.network.layers import refuse
from mint_cli.network.observe import activations, patches
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by

FEATURES = ("means", "patches")


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    samples_per_class: int,
    features: str,
    estimator: partial,
) -> None:
    """Samples within the classes, known features, cells that are pairs of groups, layers to be seen."""
    im.check_per_class(labels, samples_per_class)
    if features not in FEATURES:
        raise SettingError("features", f"must be one of {', '.join(FEATURES)}", features)
    for own in cells.values():
        check_pairs(own)
    refuse("skip", {name: layers[name].blind for name in cells}, "cannot be judged by information")
    for name, own in cells.items():
        groups_of(layers[name], own, features)
    if getattr(estimator.func, "of_classes", False):
        bound = "must measure information between groups; with the class label_information does"
        raise SettingError("estimator", bound, estimator.func.__name__)
    rows = samples_per_class * len(labels.unique())
    with owned("estimator"):
        getattr(estimator.func, "check", no_check)(rows, **estimator.keywords)


def check_pairs(cells: Cells) -> None:
    """SettingError for whole channels and units: they have no parents within their layer."""
    if is_coupled(cells):
        what = "units" if is_unit(cells) else "whole channels (filters)"
        bound = f"must be blocks or weights: {what} are no pairs of groups"
        raise SettingError("granularity", bound, hint="which information is measured between")


def no_check(rows: int, /, **settings) -> None:
    """Accept everything."""


@checked_by(check)
def conditional_information(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    features: str,
    estimator: partial,
) -> dict[str, Estimate]:
    """The estimator on one set of images for both sides of a layer, drawn per class without replacement.

    ``features``: ``means`` = every channel averaged over space, one row an image; ``patches`` = the
    input patch of one random output position an image (kernel size × channels values) and the output
    there.
    """
    index = im.per_class(images, samples_per_class, rng)
    see = activations if features == "means" else partial(patches, rng=rng)
    estimates = {}
    for name, (parent, child) in see(model, list(cells), images, index).items():
        layer = layer_of(model, name)
        children, parents = groups_of(layer, cells[name], features)
        estimates[name] = named(name, estimator, child, parent, children, parents, rng)
    return estimates


def layer_of(model: nn.Module, name: str) -> Layer:
    """The layer of that name, of which only the weight's shape matters here."""
    module = model.get_submodule(name)
    return Layer(name, type(module).__name__, tuple(module.weight.shape), 1, 1)


def groups_of(layer: Layer, cells: Cells, features: str) -> tuple[Tensor, Tensor]:
    """Child group of every output and parent group of every feature of a layer's input."""
    child, parent = rectangles(cells, only_weight(cells), layer.shape)
    if features == "patches":
        return child, parent
    channels = parent.view(-1, layer.kernel)
    if (channels != channels[:, :1]).any():
        raise SettingError(
            "granularity",
            f"must be blocks: averaged over space a channel of layer {layer.name} is one feature, "
            "and its single weights cannot be told apart",
        )
    return child, channels[:, 0]


def named(layer: str, estimator: partial, *arguments) -> Estimate:
    """The estimate of a layer; whatever is wrong with its activations is told with the layer's name."""
    try:
        return estimator(*arguments)
    except DataError as error:
        raise DataError(f"layer {layer}: {error}") from error
