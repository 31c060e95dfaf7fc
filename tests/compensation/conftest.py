"""A small residual network with strides, batch norm and a linear layer, and images for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mint_cli.network.layers import normalise_inputs
from mint_cli.protocol import Images, Masks


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(8)
        self.outer = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.outer_norm = nn.BatchNorm2d(6)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.outer_norm(self.outer(self.inner_norm(self.inner(x)).relu()))
        return self.out((x[:, :, ::2, ::2] + y).relu().mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Residual()
        for norm in (network.inner_norm, network.outer_norm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            norm.weight.data.uniform_(0.5, 2.0)
    return normalise_inputs(network, (0.5,), (0.25,)).eval()


@pytest.fixture
def noise() -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(200) % 3, 1, True)


@pytest.fixture
def masks() -> Masks:
    generator = torch.Generator().manual_seed(2)
    shapes = {"stem": (6, 1), "inner": (8, 6), "outer": (6, 8), "out": (3, 6)}
    return {name: torch.rand(shape, generator=generator) < 0.7 for name, shape in shapes.items()}


@pytest.fixture
def settings() -> dict:
    return {"calibration_images": 100, "positions": 16, "measured": 0.5, "joint": 0.9, "ridge": 1e-6, "batch_size": 30}
