"""MINT's blocks: the connections between a group of output and a group of input channels (arXiv
2003.08472).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.network.couplings import Recorded
from mint_cli.protocol import Cells, Layer

Groups = int | dict[str, int | None] | None


def blocks(
    network: Recorded, layers: dict[str, Layer], /, *, child_groups: Groups, parent_groups: Groups
) -> dict[str, Cells]:
    """One site a layer, cells of shape (child groups, parent groups); with a group a channel,
    single kernels.

    Child groups cut a layer's output channels, parent groups its input channels: a number for all
    layers, a mapping with ``default`` and names of layers, or None for every channel by itself.
    Raises SettingError for counts outside the channels, and names of layers that are none.
    """
    found = {}
    for name, layer in layers.items():
        out, entering = layer.shape[:2]
        child = contiguous(out, count(child_groups, name, out, "child_groups"))
        parent = contiguous(entering, count(parent_groups, name, entering, "parent_groups"))
        shape = (int(child[-1]) + 1, int(parent[-1]) + 1)
        found[name] = Cells(shape, {layer.weight: child[:, None] * shape[1] + parent[None, :]})
    return found


def contiguous(channels: int, groups: int) -> Tensor:
    """Group of each channel, int32 (channels,): contiguous, sizes differ by at most one."""
    return (torch.arange(channels) * groups // channels).int()


def count(setting: Groups, layer: str, channels: int, name: str) -> int:
    """Groups of one side of one layer; SettingError for a count outside its channels."""
    value = setting.get(layer, setting.get("default")) if isinstance(setting, dict) else setting
    if value is None:
        return channels
    if not 1 <= value <= channels:
        raise SettingError(
            name,
            f"must lie between 1 and {channels}, the channels of layer {layer}",
            value,
            f"one layer alone is set by a mapping, {{default: …, {layer}: …}}",
        )
    return value
