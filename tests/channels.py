"""Networks whose channels hang together in every way that one knows of, and choices of
their cells.
"""

from __future__ import annotations

import torch
from networks import seeded
from torch import nn

from mint_cli.granularity.filters import filters
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import record
from mint_cli.protocol import Cells, Images, Kept

PIXELS = (3, 8, 8)


class Net(nn.Module):
    """Modules under their names, and a function of them and the images as the forward pass."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.of = forward

    def forward(self, x):
        return self.of(self, x)


def pooled(x):
    return x.mean((2, 3))


def conv(entering: int, leaving: int, **settings) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, 3, **{"padding": 1} | settings)


def sequential():
    return Net(
        lambda m, x: m.out(pooled(m.last(torch.relu(m.norm(m.first(x)))))),
        first=conv(3, 6), norm=nn.BatchNorm2d(6), last=conv(6, 5), out=nn.Linear(5, 3),
    )  # fmt: skip


def residual():
    def forward(m, x):
        x = torch.relu(m.stem(x))
        return m.out(pooled(m.outer(torch.relu(m.inner(x))) + x))

    return Net(forward, stem=conv(3, 6), inner=conv(6, 4), outer=conv(4, 6), out=nn.Linear(6, 3))


def concatenated():
    def forward(m, x):
        x = torch.cat([m.left(x), m.right(x)], 1)
        return m.out(pooled(torch.relu(m.norm(x))))

    return Net(
        forward, left=conv(3, 4), right=conv(3, 5), norm=nn.BatchNorm2d(9), out=nn.Linear(9, 3)
    )


def flattened():
    return Net(
        lambda m, x: m.out(torch.relu(m.first(x)).flatten(1)),
        first=conv(3, 4),
        out=nn.Linear(256, 3),
    )


def depthwise():
    return Net(
        lambda m, x: m.out(pooled(m.last(torch.relu(m.deep(torch.relu(m.first(x))))))),
        first=conv(3, 6), deep=conv(6, 12, groups=6), last=conv(12, 5), out=nn.Linear(5, 3),
    )  # fmt: skip


def prelu():
    return Net(
        lambda m, x: m.out(pooled(m.act(m.first(x)))),
        first=conv(3, 6), act=nn.PReLU(6), out=nn.Linear(6, 3),
    )  # fmt: skip


def gated():
    def forward(m, x):
        x = torch.relu(m.first(x))
        gate = torch.sigmoid(m.up(torch.relu(m.down(x.mean((2, 3), keepdim=True)))))
        return m.out(pooled(x * gate))

    return Net(
        forward,
        first=conv(3, 6), down=nn.Conv2d(6, 2, 1), up=nn.Conv2d(2, 6, 1), out=nn.Linear(6, 3),
    )  # fmt: skip


def split():
    def forward(m, x):
        left, right = m.first(x).chunk(2, 1)
        return m.out(pooled(torch.cat([torch.relu(m.own(left)), right], 1)))

    return Net(forward, first=conv(3, 8), own=conv(4, 4), out=nn.Linear(8, 3))


def padded():
    """Wide channels, of which the narrow ones are added to the first only."""

    def forward(m, x):
        x = torch.relu(m.narrow(x))
        wide = torch.cat([m.own(x), torch.zeros_like(x)], 1)
        return m.out(pooled(torch.relu(m.wide(x) + wide)))

    return Net(forward, narrow=conv(3, 3), own=conv(3, 3), wide=conv(3, 6), out=nn.Linear(6, 3))


def varied(model: nn.Module) -> nn.Module:
    """The network with statistics and factors of its norms that are not those of a new one."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2.0)
            m.weight.data.uniform_(0.5, 2.0)
            m.bias.data.normal_()
        elif isinstance(m, nn.PReLU):
            m.weight.data.uniform_(0.1, 0.9)
    return model


NETWORKS = {
    f.__name__: lambda f=f: seeded(lambda: varied(f()))
    for f in (sequential, residual, concatenated, flattened, depthwise, prelu, gated, split)
}


def two_convolutions(seed: int = 0) -> nn.Module:
    """Two rectified convolutions and a linear layer for grey images of 6×6 pixels."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 3, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, 3),
        ),
        seed,
    )


def rectified(model: nn.Module, images: Images) -> dict[str, torch.Tensor]:
    """What leaves both ReLUs of ``two_convolutions``, (images, channels, positions), by maker."""
    with torch.no_grad():
        first = model[1](model[0](images.pixels.float() / 255))
        return {"0": first.flatten(2).double(), "2": model[3](model[2](first)).flatten(2).double()}


def filter_cells(model: nn.Module, residual: bool = True, pixels=PIXELS) -> dict[str, Cells]:
    """All channels of a network."""
    return filters(Recorded(model, pixels), record(model, pixels), residual=residual)


def some(cells: dict[str, Cells], seed: int = 0, share: float = 0.5) -> Kept:
    """A random choice of cells that leaves the first of every site."""
    generator = torch.Generator().manual_seed(seed)
    kept = {s: torch.rand(own.shape, generator=generator) < share for s, own in cells.items()}
    for own in kept.values():
        own[0] = True
    return kept


def images(count: int = 4, pixels=PIXELS, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *pixels, generator=torch.Generator().manual_seed(seed))
