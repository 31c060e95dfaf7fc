"""Arithmetic of cells: sums over them, masks from them, and the rectangles they are in a layer's
weight.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import torch
from torch import Tensor, nn

from mint_cli.errors import SettingError
from mint_cli.protocol import Cells, Kept, Masks, Tensors


def summed(cells: Cells, values: Tensors) -> Tensor:
    """Sum over every cell of ``values``, a tensor per parameter (others count nothing): float64,
    the cells' shape.
    """
    total = torch.zeros(prod(cells.shape), dtype=torch.float64)
    for name, labels in cells.labels.items():
        if name in values:
            value = values[name].detach().cpu().double()
            value = value.flatten(labels.ndim).sum(-1) if value.ndim > labels.ndim else value
            inside = labels >= 0
            total.index_add_(0, labels[inside].long(), value[inside])
    return total.view(cells.shape)


def sizes(cells: Cells, parameters: Tensors, counted: Collection[str]) -> Tensor:
    """Elements of the ``counted`` parameters that belong to every cell, int64, the cells' shape."""
    ones = {
        name: torch.ones(()).expand(parameters[name].shape)
        for name in cells.labels
        if name in counted
    }
    return summed(cells, ones).long()


def mean(cells: Cells, values: Tensors) -> Tensor:
    """Mean over every cell of ``values``, a tensor per parameter: float64, the cells' shape."""
    return summed(cells, values) / total(cells, values)


def masks_of(cells: dict[str, Cells], kept: Kept) -> Masks:
    """Masks of parameters: an element stays if every cell that it belongs to does."""
    masks: Masks = {}
    for site, own in cells.items():
        stays = torch.cat(
            [kept[site].flatten().cpu(), torch.ones(1, dtype=torch.bool)]
        )  # label −1 is the last
        for name, labels in (*own.labels.items(), *own.reads.items()):
            masks[name] = both(masks.get(name), looked_up(stays, labels))
    return masks


def looked_up(values: Tensor, labels: Tensor) -> Tensor:
    """The value of every label; of rows that share their memory only one is looked up."""
    if labels.ndim == 2 and labels.stride(0) == 0:
        return values[labels[0].long()].expand(len(labels), -1)
    return values[labels.long()]


def both(first: Tensor | None, second: Tensor) -> Tensor:
    """Where both masks of one parameter keep; either may have fewer leading axes."""
    if first is None:
        return second
    ndim = max(first.ndim, second.ndim)
    first, second = (m.reshape(m.shape + (1,) * (ndim - m.ndim)) for m in (first, second))
    return first & second


def gone(cells: dict[str, Cells], masks: Masks, counted: Collection[str]) -> Kept:
    """Cells of which the masks have left no element of the ``counted`` parameters, True = gone."""
    found = {}
    for site, own in cells.items():
        every = {
            n: torch.ones_like(m, dtype=torch.bool) for n, m in own.labels.items() if n in counted
        }
        left = summed(own, {n: both(masks.get(n), m) for n, m in every.items()})
        found[site] = (left == 0) & (summed(own, every) > 0)
    return found


def rectangles(cells: Cells, weight: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Child group of each output (out,) and parent of each column of the flat weight (in ×
    kernel,), int64.

    With cells of shape (c, …) an element's label is child · (cells per child) + parent; cells of
    one axis are judged by one child group, all outputs that read them.  Raises SettingError where a
    layer's cells are not all the pairs of a child and a parent.
    """
    labels = cells.labels[weight]
    flat = labels.reshape(labels.shape + (1,) * (len(shape) - labels.ndim)).expand(shape).flatten(1)
    parents = prod(cells.shape[1:]) if len(cells.shape) > 1 else prod(cells.shape)
    child, parent = flat[:, 0].long() // parents, flat[0].long() % parents
    if not torch.equal(child[:, None] * parents + parent[None, :], flat.long()):
        raise SettingError(
            "granularity", f"must cut the weight of {weight} into pairs of outputs and inputs"
        )
    return child, parent


def only_weight(cells: Cells) -> str:
    """The one parameter that the cells of a layer are of; SettingError for cells that span
    layers.
    """
    if len(cells.labels) != 1:
        several = ", ".join(list(cells.labels)[:3]) + (", …" if len(cells.labels) > 3 else "")
        raise SettingError(
            "granularity", f"must have cells of one layer here, these span {several}"
        )
    return next(iter(cells.labels))


def is_coupled(cells: Cells) -> bool:
    """Whether the cells are channels of a coupled set of layers, not parts of one layer's
    weight.
    """
    return len(cells.shape) == 1


def is_unit(cells: Cells) -> bool:
    """Whether the cells are whole branches of a network, which have names."""
    return bool(cells.names)


def check_filters(cells: dict[str, Cells]) -> None:
    """SettingError for cells that are no whole channels."""
    if any(is_unit(own) or not is_coupled(own) for own in cells.values()):
        bound = "must be filters: the score is one of whole channels, as their readers see them"
        raise SettingError("granularity", bound)


def readers(cells: Cells) -> dict[str, Tensor]:
    """Layers that read the cells, and the cell of every input that they read, int64, −1 none."""
    return {
        name.removesuffix(".weight"): labels[0].long()
        for name, labels in cells.labels.items()
        if labels.ndim == 2
    }


def all_readers(cells: Cells) -> dict[str, Tensor]:
    """Layers that read coupled cells, also those that make some, and the cell of every input.

    int64 (in,), −1 none.
    """
    found: dict[str, Tensor] = {}
    for name, labels in (*cells.labels.items(), *cells.reads.items()):
        if labels.ndim == 2:
            layer, owner = name.removesuffix(".weight"), labels[0].long()
            found[layer] = torch.where(owner >= 0, owner, found.get(layer, owner))
    return found


def parameters_of(model: nn.Module, cells: Cells) -> Tensors:
    """The weights that the cells are of, by name: parameters of two and more axes, no biases and no
    norms.
    """
    parameters = dict(model.named_parameters())
    return {
        name: parameters[name]
        for name in cells.labels
        if name in parameters and parameters[name].ndim > 1
    }


def total(cells: Cells, parameters: Tensors) -> Tensor:
    """Elements of the given parameters that belong to every cell, float64, at least 1."""
    ones = {name: torch.ones(()).expand(p.shape) for name, p in parameters.items()}
    return summed(cells, ones).clamp_min(1)


def unit(scores: Tensor) -> Tensor:
    """Scores divided by their root sum of squares, if that is not zero."""
    return scores / scores.norm().clamp_min(1e-300)
