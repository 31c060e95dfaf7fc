"""Networks of residual and of dense units, each with what cannot go as a unit, and images
for them.
"""

from __future__ import annotations

import torch
from channels import Net, conv, pooled, varied
from networks import seeded
from torch import nn

from mint_cli.granularity.units import units
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import normalise_inputs, record
from mint_cli.protocol import Cells, Kept

PIXELS = (3, 8, 8)


def branch(entering: int, leaving: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions, each with its norm."""
    return nn.Sequential(
        conv(entering, leaving, stride=stride, bias=False), nn.BatchNorm2d(leaving), nn.ReLU(),
        conv(leaving, leaving, bias=False), nn.BatchNorm2d(leaving),
    )  # fmt: skip


def residual() -> Net:
    """Three units, the second with strides and a convolution as its shortcut; sums in place."""

    def forward(m, x):
        x = torch.relu(m.stem(x))
        y = m.first(x)
        y += x
        x = torch.relu(y)
        x = torch.relu(m.short(x) + m.second(x))
        return m.out(pooled(torch.relu(m.third(x) + x)))

    return Net(
        forward,
        stem=conv(3, 6), first=branch(6, 6), second=branch(6, 8, 2), third=branch(8, 8),
        short=nn.Conv2d(6, 8, 1, stride=2), out=nn.Linear(8, 3),
    )  # fmt: skip


def layer(entering: int, growth: int) -> nn.Sequential:
    """A norm, a bottleneck and the convolution of the channels that a dense unit adds."""
    return nn.Sequential(
        nn.BatchNorm2d(entering), nn.ReLU(), nn.Conv2d(entering, 5, 1, bias=False),
        nn.BatchNorm2d(5), nn.ReLU(), conv(5, growth, bias=False),
    )  # fmt: skip


def dense() -> Net:
    """Three units with a transition after two of them."""

    def forward(m, x):
        x = m.stem(x)
        for name in ("first", "second"):
            x = torch.cat([x, m.get_submodule(name)(x)], 1)
        x = m.transition(torch.relu(m.norm(x)))
        x = torch.cat([x, m.third(x)], 1)
        return m.out(pooled(torch.relu(m.last(x))))

    return Net(
        forward,
        stem=conv(3, 6, bias=False), first=layer(6, 4), second=layer(10, 4),
        norm=nn.BatchNorm2d(14), transition=nn.Conv2d(14, 6, 1, bias=False), third=layer(6, 4),
        last=nn.BatchNorm2d(10), out=nn.Linear(10, 3),
    )  # fmt: skip


def network(build) -> nn.Module:
    """One of them with weights and statistics of its own, for pixels in [0, 1]."""
    model = seeded(lambda: varied(build()))
    return normalise_inputs(model, (0.5,) * 3, (0.25,) * 3).eval()


def unit_cells(model: nn.Module, pixels=PIXELS, stages: bool = False) -> dict[str, Cells]:
    """The units of a network."""
    return units(Recorded(model, pixels), record(model, pixels), stages=stages)


def without(cells: dict[str, Cells], *names: str) -> Kept:
    """The choice of all units but the named ones."""
    return {s: torch.tensor([name not in names for name in own.names]) for s, own in cells.items()}


def images(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *PIXELS, generator=torch.Generator().manual_seed(seed))
