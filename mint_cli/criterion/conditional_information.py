"""MINT's criterion: information of child and parent group given the layer's other parent groups."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.errors import DataError, SettingError, owned
from mint_cli.network.cells import is_coupled, is_unit, only_weight, readers, rectangles
from mint_cli.network.layers import refuse, weighted_layers
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
    """Samples within the classes, known features, cells that are pairs of groups, layers to be
    seen.
    """
    im.check_per_class(labels, samples_per_class)
    if features not in FEATURES:
        raise SettingError("features", f"must be one of {', '.join(FEATURES)}", features)
    if any(is_unit(own) for own in cells.values()):
        bound = "must be weights, blocks or filters: whole units are no pairs of groups"
        hint = (
            "which information is measured between; label_information measures that with the class"
        )
        raise SettingError("granularity", bound, hint=hint)
    judged = {name for site, own in cells.items() for name in judges(site, own)}
    refuse("skip", {name: layers[name].blind for name in judged}, "cannot be judged by information")
    for name, own in cells.items():
        if not is_coupled(own):
            groups_of(layers[name], own, features)
    if getattr(estimator.func, "of_classes", False):
        bound = "must measure information between groups; with the class label_information does"
        raise SettingError("estimator", bound, estimator.func.__name__)
    rows = samples_per_class * len(labels.unique())
    with owned("estimator"):
        getattr(estimator.func, "check", no_check)(rows, **estimator.keywords)


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
    """The estimator on one set of images for both sides of a layer, drawn per class without
    replacement.

    ``features``: ``means`` = every channel averaged over space, one row an image; ``patches`` = the
    input patch of one random output position an image (kernel size × channels values) and the
    output there.  A whole channel is judged by the layers that read it, all outputs of each as one
    child; what it shares with them is summed.
    """
    index = im.per_class(images, samples_per_class, rng)
    see = activations if features == "means" else partial(patches, rng=rng)
    names = list(dict.fromkeys(name for site, own in cells.items() for name in judges(site, own)))
    names = [name for name in weighted_layers(model) if name in names]
    found: dict[str, list[Estimate]] = {site: [] for site in cells}
    for name, (parent, child) in see(model, names, images, index).items():
        layer = layer_of(model, name)
        for site, own in cells.items():
            if site == name and not is_coupled(own):
                children, parents = groups_of(layer, own, features)
                found[site].append(named(name, estimator, child, parent, children, parents, rng))
            elif name in judges(site, own):
                owner = readers(own)[name]
                owner = owner.repeat_interleave(layer.kernel) if features == "patches" else owner
                read = partial(named, name, estimator, child, parent)
                found[site].append(of_channels(read, owner, child.shape[1], own.shape[0], rng))
    return {site: added(estimates) for site, estimates in found.items()}


def judges(site: str, cells: Cells) -> list[str]:
    """Layers that judge the cells of a site: itself, of coupled channels those that read them."""
    return list(readers(cells)) if is_coupled(cells) else [site]


def of_channels(
    read: Callable[..., Estimate],
    owner: Tensor,
    outputs: int,
    channels: int,
    rng: np.random.Generator,
) -> Estimate:
    """What one reader, all ``outputs`` as one child, says of a site's ``channels``, in their order.

    ``owner`` says to which of them each feature belongs; others (−1) are one more parent group,
    which counts among what is given.  A channel that the reader does not see scores 0.
    """
    seen, parents = owner.unique(return_inverse=True)
    estimate = read(torch.zeros(outputs, dtype=torch.int64), parents, rng)
    inside = seen >= 0

    def placed(values: Tensor) -> Tensor:
        return values.new_zeros(channels).index_copy(0, seen[inside], values[0, inside])

    halves = estimate.halves and (placed(estimate.halves[0]), placed(estimate.halves[1]))
    return Estimate(placed(estimate.score), halves)


def added(estimates: list[Estimate]) -> Estimate:
    """The sum of estimates; of one it is that one."""
    if len(estimates) == 1:
        return estimates[0]
    score = sum(one.score for one in estimates)
    if any(one.halves is None for one in estimates):
        return Estimate(score)
    first, second = (sum(one.halves[i] for one in estimates) for i in (0, 1))
    return Estimate(score, (first, second))


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
    """The estimate of a layer; whatever is wrong with its activations is told with the layer's
    name.
    """
    try:
        return estimator(*arguments)
    except DataError as error:
        raise DataError(f"layer {layer}: {error}") from error
