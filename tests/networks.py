"""Small networks that several tests look at, and the cells of a network in one call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from mint_cli.granularity.blocks import blocks
from mint_cli.granularity.filters import filters
from mint_cli.granularity.weights import weights
from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import normalise_inputs, prunable_layers, record
from mint_cli.protocol import Cells, Layer

PIXELS = (1, 8, 8)


def resnet56(shape: tuple[int, ...], classes: int) -> nn.Module:
    return resnet_cifar(shape, classes, depth=56, bottleneck=False)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The module with initial weights of that seed, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def layers_of(
    model: nn.Module, pixels: tuple[int, ...] = PIXELS, skip: list[str] | None = None
) -> dict[str, Layer]:
    """The prunable layers of a network for images of that shape."""
    return prunable_layers(record(model, pixels), skip or [])


def block_cells(
    model: nn.Module, *names: str, child=None, parent=None, pixels: tuple[int, ...] = PIXELS
) -> dict[str, Cells]:
    """Blocks of the named layers, or of all."""
    layers = record(model, pixels)
    chosen = {name: layers[name] for name in names} if names else layers
    return blocks(Recorded(model, pixels), chosen, child_groups=child, parent_groups=parent)


def weight_cells(
    model: nn.Module, *names: str, pixels: tuple[int, ...] = PIXELS
) -> dict[str, Cells]:
    """Single weights of the named layers, or of all."""
    layers = record(model, pixels)
    chosen = {name: layers[name] for name in names} if names else layers
    return weights(Recorded(model, pixels), chosen)


def channel_cells(model: nn.Module, pixels: tuple[int, ...] = PIXELS) -> dict[str, Cells]:
    """Whole channels of a network, also those of its residual stream."""
    return filters(Recorded(model, pixels), record(model, pixels), residual=True)


def plain_relu(x: torch.Tensor) -> torch.Tensor:
    return F.relu(x)


def relu_in_place(x: torch.Tensor) -> torch.Tensor:
    return F.relu(x, inplace=True)


def relu_ignored(x: torch.Tensor) -> torch.Tensor:
    """In place, and what the call returns is not used."""
    F.relu_(x)
    return x


RELUS = {"returned": plain_relu, "in place": relu_in_place, "in place, result unused": relu_ignored}


def out_of_place(y: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    return shortcut + y


def into_branch(y: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    y += shortcut
    return y


def into_shortcut(y: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    shortcut += y
    return shortcut


ADDITIONS = {
    "a new sum": out_of_place,
    "into the branch": into_branch,
    "into the shortcut": into_shortcut,
}


class Residual(nn.Module):
    """Stem, one block with strides and batch norms beside a shortcut, a linear layer."""

    def __init__(self, relu=plain_relu, add=out_of_place) -> None:
        super().__init__()
        self.relu, self.add = relu, add
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(8)
        self.outer = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.outer_norm = nn.BatchNorm2d(6)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.outer_norm(self.outer(self.relu(self.inner_norm(self.inner(x)))))
        return self.out(self.relu(self.add(y, F.avg_pool2d(x, 2))).mean((2, 3)))


def residual(relu=plain_relu, add=out_of_place) -> nn.Module:
    """The residual network with statistics and factors of its norms that are not those of a new
    one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Residual(relu, add)
        for norm in (network.inner_norm, network.outer_norm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            norm.weight.data.uniform_(0.5, 2.0)
    return normalise_inputs(network, (0.5,), (0.25,)).eval()
