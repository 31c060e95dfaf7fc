"""Channels and units taken out of a network physically: smaller weights, the same outputs."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from mint_cli.errors import DataError
from mint_cli.network.couplings import CHANNELWISE, depthwise
from mint_cli.network.layers import CONVOLUTIONS, inference
from mint_cli.protocol import Cells, Kept

Indices = dict[str, Tensor]  # module -> bool: which of its rows, or columns, stay


def shrink(model: nn.Module, cells: dict[str, Cells], kept: Kept) -> nn.Module:
    """A copy of the network without the channels that are not ``kept``.

    Cells are those of granularity ``filters``.
    """
    rows, columns = indices(cells, kept)
    small = deepcopy(model)
    narrow(small, rows, columns)
    return small


def narrow(model: nn.Module, rows: Indices, columns: Indices) -> None:
    """Leave every module the rows and columns that are named, in place."""
    for name in rows.keys() | columns.keys():
        take(model.get_submodule(name), rows.get(name), columns.get(name))


class Zeros(nn.Module):
    """What is left of a convolution or linear layer that gives zeros: their shape."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.channels, self.sizes = len(layer.weight), []
        if isinstance(layer, nn.Conv2d):
            pads = layer._reversed_padding_repeated_twice  # (left, right, top, bottom)
            padding = (pads[2] + pads[3], pads[0] + pads[1])
            settings = (padding, layer.dilation, layer.kernel_size, layer.stride)
            self.sizes = [(p - d * (k - 1) - 1, s) for p, d, k, s in zip(*settings, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        if not self.sizes:
            return x.new_zeros(*x.shape[:-1], self.channels)
        sides = zip(x.shape[-2:], self.sizes, strict=True)
        return x.new_zeros(*x.shape[:-3], self.channels, *((n + a) // s + 1 for n, (a, s) in sides))

    def extra_repr(self) -> str:
        return str(self.channels)


def drop(model: nn.Module, names: Iterable[str]) -> None:
    """Replace modules of branches that are gone, in place: layers by zeros, norms by nothing at
    all.

    Raises DataError for a module that neither can stand for.
    """
    for name in names:
        module = model.get_submodule(name)
        if not replaceable(module):
            raise DataError(
                f"{name or 'the network'} cannot be left out, it is {type(module).__name__}"
            )
        layer = isinstance(module, nn.Conv2d | nn.Linear)
        model.set_submodule(name, Zeros(module) if layer else nn.Identity())


def replaceable(module: nn.Module) -> bool:
    """Whether zeros, or nothing at all, can stand for a module whose branch is gone."""
    norms = (*CHANNELWISE, nn.LayerNorm, nn.GroupNorm)
    return type(module) in (nn.Conv2d, nn.Linear) or isinstance(module, norms)


def indices(cells: dict[str, Cells], kept: Kept) -> tuple[Indices, Indices]:
    """Which rows and which columns of every module stay."""
    rows: Indices = {}
    columns: Indices = {}
    for site, own in cells.items():
        here = kept[site].flatten().cpu()
        stays = torch.cat([here, torch.ones(1, dtype=torch.bool)])  # label −1 is the last
        for name, labels in (*own.labels.items(), *own.reads.items()):
            module = name.rpartition(".")[0]
            side = rows if labels.ndim == 1 else columns
            stay = stays[(labels if labels.ndim == 1 else labels[0]).long()]
            side[module] = side[module] & stay if module in side else stay
    return rows, columns


def take(module: nn.Module, rows: Tensor | None, columns: Tensor | None) -> None:
    """Leave a module the given rows (what it gives) and columns (what it takes), in place."""
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    for name, held in own:
        if held.ndim == 0:
            continue
        chosen = held.detach()
        if rows is not None and len(held) == len(rows):
            chosen = chosen.index_select(0, places(rows, held))
        if columns is not None and name == "weight":
            if chosen.shape[1] != len(columns):
                raise DataError(
                    f"{chosen.shape[1]} columns cannot be chosen from by {len(columns)}"
                )
            chosen = chosen.index_select(1, places(columns, held))
        if isinstance(held, nn.Parameter):
            setattr(module, name, nn.Parameter(chosen.clone(), held.requires_grad))
        else:
            setattr(module, name, chosen.clone())
    resize(module)


def places(chosen: Tensor, like: Tensor) -> Tensor:
    """Where a bool mask is true, int64, on the device of ``like``."""
    return chosen.nonzero()[:, 0].to(like.device)


def resize(module: nn.Module) -> None:
    """Let a module's own numbers of channels be those of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif depthwise(module):
        times = module.out_channels // module.in_channels
        module.in_channels = module.groups = len(module.weight) // times
        module.out_channels = len(module.weight)
    elif isinstance(module, CONVOLUTIONS):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    else:
        held = next(x for x in (module.weight, module.running_mean) if x is not None)
        module.num_features = len(held)


def difference(first: nn.Module, second: nn.Module, x: Tensor) -> float:
    """Largest difference of two networks' logits on images ``x``, relative to the largest logit."""
    with inference(first), inference(second):
        one, other = first(x), second(x)
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-30))
