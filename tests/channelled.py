"""Networks whose channels hang together in every way that the package knows."""

from __future__ import annotations

import torch
from networks import seeded
from torch import nn
from torch.nn import functional as F

PIXELS = (2, 8, 8)


class Chain(nn.Module):
    """Activation, norm, pooling, dropout and flattening between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.act, self.b = nn.PReLU(6), nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.b_norm, self.c, self.out = nn.BatchNorm2d(5), nn.Linear(5 * 4, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.max_pool2d(self.act(self.norm(self.a(x))), 2)
        x = F.adaptive_avg_pool2d(F.relu(self.b_norm(self.b(x)), inplace=True), 2)
        return self.out(F.gelu(self.c(F.dropout(x, training=False).flatten(1))))


class Joined(nn.Module):
    """Concatenation, as in a dense network."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.norm, self.c, self.out = nn.BatchNorm2d(7), nn.Conv2d(7, 5, 1), nn.Linear(5, 3)

    def forward(self, x):
        x = self.a(x)
        x = self.norm(torch.cat([x, self.b(x.relu())], 1)).relu()
        return self.out(self.c(x).relu().mean((2, 3)))


class Added(nn.Module):
    """A residual network of two blocks, the second with a convolution in its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.a, self.a_norm = nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.b, self.b_norm = nn.Conv2d(5, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c, self.d = nn.Conv2d(4, 3, 3, stride=2, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.short, self.out = nn.Conv2d(4, 6, 1, stride=2), nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.b_norm(self.b(self.a_norm(self.a(x)).relu()))).relu()
        x = (self.short(x) + self.d(self.c(x).relu())).relu()
        return self.out(x.mean((2, 3)))


class Depthwise(nn.Module):
    """Expansion, depthwise convolution and squeeze-and-excitation, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6)
        self.depth, self.down = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 2, 1)
        self.up, self.b, self.out = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.depth(self.norm(self.a(x)).relu())
        x = x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.out(self.b(x).relu().mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers on tokens, whose channels come last."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(8, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.b(self.a(x.flatten(1, 2)).relu()).relu().mean(1))


class SelfReading(nn.Module):
    """A layer that adds to the channels that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.loop, self.out = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.out((x + self.loop(x)).relu().mean((2, 3)))


def lively(network: nn.Module) -> nn.Module:
    """The network with statistics, factors and biases of its norms that are not those of a new one."""
    generator = torch.Generator().manual_seed(1)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=generator))
            m.running_var.copy_(torch.rand(m.running_var.shape, generator=generator) + 0.5)
            m.weight.data.copy_(torch.rand(m.weight.shape, generator=generator) + 0.5)
            m.bias.data.copy_(torch.randn(m.bias.shape, generator=generator))
    return network


BUILDS = {b.__name__: b for b in (Chain, Joined, Added, Depthwise, Tokens)}


def built(name: str) -> nn.Module:
    return lively(seeded(BUILDS[name]))
