"""Every weight by itself."""

from __future__ import annotations

import torch

from mint_cli.network.couplings import Recorded
from mint_cli.protocol import Cells, Layer


def weights(network: Recorded, layers: dict[str, Layer], /) -> dict[str, Cells]:
    """One site a layer; a cell is one weight, and the cells have the shape of the layer's
    weight.
    """
    return {
        name: Cells(layer.shape, {layer.weight: numbered(layer.shape)})
        for name, layer in layers.items()
    }


def numbered(shape: tuple[int, ...]) -> torch.Tensor:
    """Every element its own label, int32, in order of position."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.int32).view(shape)
