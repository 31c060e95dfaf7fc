"""Weight times norm of its input (Wanda: Sun et al. 2024, arXiv 2306.11695) at any granularity."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network.cells import mean, only_weight
from mint_cli.network.layers import device_of, hooked, inference, refuse, weighted_layers
from mint_cli.network.observe import patches_of
from mint_cli.protocol import Cells, Estimate, Images, Layer, Tensors, checked_by


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    samples_per_class: int,
    **settings,
) -> None:
    """Samples within the classes, cells of one layer, layers that can be seen."""
    im.check_per_class(labels, samples_per_class)
    names = [name for name, own in cells.items() if only_weight(own)]
    refuse("skip", {name: layers[name].blind for name in names}, "cannot be judged by its inputs")


@checked_by(check)
def weight_input(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
) -> dict[str, Estimate]:
    """Mean over every cell of |w| · ‖x‖, x the input of the weight at all positions and images.

    ‖x‖ is the root mean square, so that scores do not grow with the images; no training transform.
    """
    index = im.per_class(images, samples_per_class, rng)
    norms, estimates = input_norms(model, list(cells), images, index, batch_size), {}
    for name, own in cells.items():
        weight = model.get_submodule(name).weight.detach()
        product = weight.abs().cpu() * norms[name].view(weight.shape[1:])
        estimates[name] = Estimate(mean(own, {only_weight(own): product}))
    return estimates


def input_norms(
    model: nn.Module, layers: list[str], images: Images, index: Tensor, batch_size: int
) -> Tensors:
    """Root mean square of every column of a layer's flat weight, float64 (in × kernel,)."""
    modules = weighted_layers(model)
    squares, rows = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0)

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        made = patches_of(modules[name], entering)
        squares[name] = squares[name] + made.double().square().sum((0, 2)).cpu()
        rows[name] += made.shape[0] * made.shape[2]

    with inference(model), hooked(model, layers, see):
        for pixels in im.plains(images, index.split(batch_size)):
            model(pixels.to(device_of(model)))
    return {name: torch.sqrt(squares[name] / rows[name]) for name in layers}
