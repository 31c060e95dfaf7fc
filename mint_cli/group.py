"""Groups: channels scored together, and the blocks of connections between two groups."""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.protocol import Shapes

Groups = int | dict[str, int | None] | None


def count(setting: Groups, layer: str, channels: int, name: str) -> int:
    """Groups of one layer: ``setting`` is a number for all, a mapping with ``default`` and layer names, or None for one a channel."""
    value = setting.get(layer, setting.get("default")) if isinstance(setting, dict) else setting
    if value is None:
        return channels
    if not isinstance(value, int) or not 1 <= value <= channels:
        raise SettingError(
            f"pruner.{name} must lie between 1 and {channels}, the channels of layer {layer}, not {value}; "
            f"one layer alone is set by '++pruner.{name}={{default: …, {layer}: …}}'"
        )
    return value


def labels(channels: int, groups: int) -> Tensor:
    """Group of each channel, int64 (channels,): contiguous, sizes differ by at most one."""
    return torch.arange(channels) * groups // channels


def block_mean(cells: Tensor, child_groups: Tensor, parent_groups: Tensor) -> Tensor:
    """Mean of ``cells`` (out, in, …) over every (child group, parent group) block: (child groups, parent groups), float64."""
    if cells.ndim > 2:
        cells = cells.flatten(2).mean(2)
    child = torch.nn.functional.one_hot(child_groups).double()
    parent = torch.nn.functional.one_hot(parent_groups).double()
    sizes = child.sum(0)[:, None] * parent.sum(0)[None, :]
    return child.T @ cells.double().cpu() @ parent / sizes


def expand(blocks: Tensor, child_groups: Tensor, parent_groups: Tensor) -> Tensor:
    """Give every connection the value of its block: (child groups, parent groups) to (out, in)."""
    return blocks[child_groups][:, parent_groups]


def of_layer(layer: str, out: int, entering: int, child_groups: Groups, parent_groups: Groups) -> tuple[Tensor, Tensor]:
    """Group labels of a layer's output channels and of its input channels; SettingError for counts outside the channels."""
    child = labels(out, count(child_groups, layer, out, "child_groups"))
    return child, labels(entering, count(parent_groups, layer, entering, "parent_groups"))


def check(shapes: Shapes, child_groups: Groups, parent_groups: Groups) -> None:
    """SettingError unless every layer's group counts lie within its channels."""
    for layer, (out, entering, *_) in shapes.items():
        of_layer(layer, out, entering, child_groups, parent_groups)
