"""What whole channels say, seen where they are read: after norms, activations and pooling.

A channel that several layers read is one map with the positions of all; one that enters a linear
layer as many features has these as its positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network.cells import all_readers, check_filters, unit
from mint_cli.network.layers import device_of, differentiated, frozen, hooked, inference
from mint_cli.network.observe import outputs_of
from mint_cli.protocol import Cells, Estimate, Images, Layer, Tensors

Owners = dict[str, Tensor]  # site -> cell of every input of one layer, int64, −1 none
Batches = Iterator[tuple[Tensor, Tensor, Tensor]]  # indices, pixels, labels
Numbers = Callable[[str, Tensor], Tensor]


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    samples_per_class: int,
    **settings,
) -> None:
    """Samples within the classes, whole channels."""
    im.check_per_class(labels, samples_per_class)
    check_filters(cells)


def owners(cells: dict[str, Cells]) -> dict[str, Owners]:
    """Layers that read channels, and whose every input is, site by site."""
    found: dict[str, Owners] = {}
    for site, own in cells.items():
        for name, owner in all_readers(own).items():
            found.setdefault(name, {})[site] = owner
    return found


def gathered(values: Tensor, owner: Tensor, size: int) -> Tensor:
    """Sums of values (…, in) over the inputs of every cell, float64 (…, size) on the CPU."""
    mine = owner >= 0
    values = values.double().cpu()
    total = torch.zeros(*values.shape[:-1], size, dtype=torch.float64)
    return total.index_add_(-1, owner[mine], values[..., mine])


def sums(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    index: Tensor,
    batch_size: int,
    numbers: Numbers,
) -> Tensors:
    """Sums of ``numbers`` over images, positions and readers: (1 + k, cells) a site.

    ``numbers(layer, entering)`` makes of what enters a layer, (n, in, positions), its k sums for
    every input, (k, in).  The first row counts the values that were summed.  Maps are not kept.
    """
    read = owners(cells)
    found: Tensors = dict.fromkeys(cells, torch.zeros(()))

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        entering = outputs_of(model.get_submodule(name), entering)
        made = numbers(name, entering)
        count = torch.full_like(made[:1], len(entering) * entering.shape[2])
        for site, owner in read[name].items():
            own = gathered(torch.cat([count, made]), owner, cells[site].shape[0])
            found[site] = found[site] + own

    passes(model, list(read), images, index, batch_size, see)
    return found


def image_means(
    model: nn.Module, cells: dict[str, Cells], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Mean of every channel over its positions, image by image: float64 (n, cells) a site."""
    read = owners(cells)
    parts: dict[str, list[Tensor]] = {site: [] for site in cells}
    totals: dict[str, list[Tensor]] = {}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        entering = outputs_of(model.get_submodule(name), entering)
        made = torch.stack([entering.sum(2), torch.full_like(entering[..., 0], entering.shape[2])])
        for site, owner in read[name].items():
            totals.setdefault(site, []).append(gathered(made, owner, cells[site].shape[0]))

    def end() -> None:
        for site, own in totals.items():
            total, count = sum(own)
            parts[site].append(total / count)
        totals.clear()

    passes(model, list(read), images, index, batch_size, see, end)
    return {site: torch.cat(own) for site, own in parts.items()}


def passes(
    model: nn.Module,
    names: list[str],
    images: Images,
    index: Tensor,
    batch_size: int,
    see: Callable[[str, Tensor, Tensor], None],
    end: Callable[[], None] = lambda: None,
) -> None:
    """Batches of plain images through the network, ``see`` called at the named layers."""
    with inference(model), hooked(model, names, see):
        for pixels in im.plains(images, index.split(batch_size)):
            model(pixels.to(device_of(model)))
            end()


def labelled(model: nn.Module, images: Images, index: Tensor, batch_size: int) -> Batches:
    """Batches of plain pixels with their labels, on the network's device."""
    for chunk in index.split(batch_size):
        x = im.plain(images, chunk).to(device_of(model))
        yield chunk, x, images.labels[chunk.to(images.labels.device)].to(x.device)


def averaged(
    total: Callable[[Tensor], Tensors], parts: tuple[Tensor, Tensor]
) -> tuple[Tensors, tuple[Tensors, Tensors]]:
    """Means over all images and over each part of them of what ``total(index)`` adds up."""
    sums, count = [total(index) for index in parts], [len(index) for index in parts]
    whole = {site: (sums[0][site] + sums[1][site]) / sum(count) for site in sums[0]}
    first, second = (
        {site: own / max(n, 1) for site, own in side.items()}
        for side, n in zip(sums, count, strict=True)
    )
    return whole, (first, second)


def changes(model: nn.Module, cells: dict[str, Cells], x: Tensor, labels: Tensor) -> Tensors:
    """First-order change of every image's loss when a channel goes: (n, cells) a site.

    Σ gradient × activation, of every reader the mean over positions, summed over readers; one
    backward pass.  float64, without its sign, which is minus.
    """
    read = owners(cells)
    with frozen(model), own_maps(model, list(read)) as maps, torch.enable_grad(), differentiated():
        loss = nn.functional.cross_entropy(model(x), labels, reduction="sum")
        gradients = torch.autograd.grad(loss, list(maps.values()), materialize_grads=True)
    found: Tensors = {}
    for (name, entering), gradient in zip(maps.items(), gradients, strict=True):
        product = outputs_of(model.get_submodule(name), entering.detach() * gradient)
        ones = torch.full_like(product[:1, :, 0], product.shape[2])
        for site, owner in read[name].items():
            size = cells[site].shape[0]
            total, count = (gathered(v, owner, size) for v in (product.sum(2), ones))
            found[site] = found.get(site, 0.0) + total / count.clamp_min(1)
    return found


@contextmanager
def own_maps(model: nn.Module, names: list[str]) -> Iterator[Tensors]:
    """Each of the layers reads a copy of its input that gradients can be asked of: it is noted."""
    maps: Tensors = {}

    def before(name: str) -> Callable:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = arguments[0]
            maps[name] = (x if x.requires_grad else x.detach().requires_grad_()).clone()
            return (maps[name], *arguments[1:])

        return hook

    handles = [model.get_submodule(n).register_forward_pre_hook(before(n)) for n in names]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def estimates(
    whole: Tensors, sides: tuple[Tensors, Tensors], normalise: bool
) -> dict[str, Estimate]:
    """Scores with those of two halves; ``normalise`` gives a site's unit root sum of squares."""
    scaled = unit if normalise else (lambda score: score)
    return {
        site: Estimate(scaled(score), tuple(scaled(side[site]) for side in sides))
        for site, score in whole.items()
    }


def statistic(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    samples_per_class: int,
    batch_size: int,
    normalise: bool,
    numbers: Numbers,
    formula: Callable[..., Tensor],
) -> dict[str, Estimate]:
    """``formula(mean, mean, …)`` of the means of ``numbers`` over images, positions and readers."""
    first, second = (
        sums(model, cells, images, index, batch_size, numbers)
        for index in im.halves(images, samples_per_class, rng)
    )
    both = {site: first[site] + second[site] for site in first}
    scores = [
        {site: formula(*(total[1:] / total[0].clamp_min(1))) for site, total in side.items()}
        for side in (both, first, second)
    ]
    return estimates(scores[0], tuple(scores[1:]), normalise)
