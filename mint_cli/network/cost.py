"""What a network costs: parameters, multiply-accumulates, bytes; whole and without some
channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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
    """Multiply-accumulates of convolutions and linear layers whose weights have so many
    elements.
    """
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


class Live(TorchDispatchMode):
    """Bytes of all tensors that operations have made and that are still in use, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, arguments=(), settings=None):
        made = function(*arguments, **(settings or {}))
        self.held = {key: one for key, one in self.held.items() if not one[0].expired()}
        for x in tree_leaves(made):
            if isinstance(x, Tensor):
                storage = x.untyped_storage()
                self.held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.held.values()))
        return made


def peak_activations(model: nn.Module, pixels: tuple[int, ...]) -> int:
    """Most bytes that results of operations take at once in a pass over one image.

    The image and the network itself do not count, nor does what an operation needs inside.
    """
    x = torch.zeros(1, *pixels, device=device_of(model))
    with torch.no_grad(), inference(model), Live() as live:
        model(x)
    return live.peak


def in_turn(
    models: dict[str, nn.Module],
    x: Tensor,
    repeats: int,
    enough: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of up to ``repeats`` passes of every network over ``x``, the networks taking turns.

    One pass of each before does not count.  Turns let a machine that slows down slow all of them;
    none begins after ``enough`` seconds, but one is always taken.
    """

    def once(model: nn.Module) -> float:
        began = clock()
        model(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return clock() - began

    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        with inference(model):
            once(model)
    began = clock()
    for turn in range(repeats):
        if turn and clock() - began > enough:
            break
        for name, model in models.items():
            with inference(model):
                seconds[name].append(once(model))
    return seconds


def latency(
    models: dict[str, nn.Module], pixels: tuple[int, ...], batch: int, repeats: int, enough: float
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a pass over ``batch`` images, quartiles, and passes, of every
    network.
    """
    x = torch.zeros(batch, *pixels, device=device_of(next(iter(models.values()))))
    x = x.contiguous(memory_format=torch.channels_last)
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    found = {}
    for name, seconds in in_turn(models, x, repeats, enough).items():
        low, middle, high = (1e3 * torch.tensor(seconds).double().quantile(levels)).tolist()
        found[name] = {"median": middle, "low": low, "high": high, "passes": len(seconds)}
    return found
