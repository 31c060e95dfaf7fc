"""What a network costs: parameters, multiply-accumulates, bytes; whole and without some channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mint_cli.network.cells import summed
from mint_cli.network.layers import device_of, inference
from mint_cli.network.surgery import indices
from mint_cli.protocol import Cells, Kept, Layer


def macs(model: nn.Module, pixels: tuple[int, ...]) -> int:
    """Multiply-accumulates of one image: half of what torch's flop counter says.

    It counts convolutions and matrix products.
    """
    with inference(model), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *pixels, device=device_of(model)))
    return counter.get_total_flops() // 2


def layer_macs(layers: dict[str, Layer], elements: dict[str, int]) -> int:
    """Multiply-accumulates of convolutions and linear layers whose weights have so many elements."""
    return sum(layer.positions * layer.calls * elements[layer.weight] for layer in layers.values())


def cell_macs(layers: dict[str, Layer], parameters: dict[str, Tensor], cells: Cells) -> Tensor:
    """Multiply-accumulates for one image of every cell of a site, int64, the cells' shape."""
    times = {x.weight: x.positions * x.calls for x in layers.values()}
    shapes = {name: parameters[name].shape for name in cells.labels if name in times}
    every = {name: torch.tensor(float(times[name])).expand(shape) for name, shape in shapes.items()}
    return summed(cells, every).long()


def remaining(parameters: dict[str, Tensor], cells: dict[str, Cells], kept: Kept) -> dict[str, int]:
    """Elements that every parameter has once the channels that are not ``kept`` are taken out."""
    rows, columns = indices(cells, kept)
    left = {}
    for name, p in parameters.items():
        module, _, kind = name.rpartition(".")
        count = p.numel()
        across = columns.get(module) if kind == "weight" and p.ndim > 1 else None
        for chosen in (rows.get(module), across):
            if chosen is not None:
                count = count * int(chosen.sum()) // len(chosen)
        left[name] = count
    return left


def parameters(model: nn.Module) -> int:
    """Numbers that training sets: weights, biases, entries of norms."""
    return sum(p.numel() for p in model.parameters())
