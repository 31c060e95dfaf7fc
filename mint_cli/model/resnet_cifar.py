"""Residual networks for small images, of any depth.

He et al. 2016 (arXiv 1512.03385, section 4.2), and with bottlenecks and pre-activation He et al.
2016 (arXiv 1603.05027).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mint_cli.errors import SettingError

WIDTHS = (16, 32, 64)  # of the three stages
WIDEN = 4  # channels that a bottleneck gives, for each inside it


class Plain(nn.Module):
    """Layers conv1, conv2, … and linear in the order of definition.

    Block k holds conv(2k) and conv(2k + 1); bn(i) follows conv(i); shortcuts have no weights.
    """

    def __init__(self, channels: int, classes: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        leaving = [WIDTHS[0]] + [width for width in WIDTHS for _ in range(2 * blocks)]
        for i, (enter, leave) in enumerate(zip([channels, *leaving], leaving, strict=False), 1):
            stride = 2 if i > 1 and enter < leave else 1
            conv = nn.Conv2d(enter, leave, 3, stride=stride, padding=1, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(leave))
        self.linear = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self._normed(1, x))
        for first in range(2, 6 * self.blocks + 2, 2):
            y = self._normed(first + 1, F.relu(self._normed(first, x)))
            x = F.relu(y + shortcut(x, y.shape[1]))
        return self.linear(x.mean((2, 3)))

    def _normed(self, i: int, x: Tensor) -> Tensor:
        return getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))


def shortcut(x: Tensor, channels: int) -> Tensor:
    """``x`` itself, or every second pixel of it between zero channels on either side (option A)."""
    missing = channels - x.shape[1]
    if not missing:
        return x
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing // 2))


class Bottlenecks(nn.Module):
    """Layers conv1, conv2, … and linear in the order of definition; bn(i) comes before conv(i).

    Block k holds conv(3k − 1), conv(3k) and conv(3k + 1); the first block of stage s has a
    projection, shortcut(s), of what its first norm gives.  The last norm is bn.
    """

    def __init__(self, channels: int, classes: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        enter = WIDTHS[0]
        self.conv1 = nn.Conv2d(channels, enter, 3, padding=1, bias=False)
        for k in range(3 * blocks):
            stage, first = k // blocks, 3 * k + 2
            width, stride = WIDTHS[stage], 2 if stage and not k % blocks else 1
            self._add(first, nn.Conv2d(enter, width, 1, stride=stride, bias=False))
            self._add(first + 1, nn.Conv2d(width, width, 3, padding=1, bias=False))
            self._add(first + 2, nn.Conv2d(width, WIDEN * width, 1, bias=False))
            if not k % blocks:
                projection = nn.Conv2d(enter, WIDEN * width, 1, stride=stride, bias=False)
                self.add_module(f"shortcut{stage + 1}", projection)
            enter = WIDEN * width
        self.bn = nn.BatchNorm2d(enter)
        self.linear = nn.Linear(enter, classes)

    def _add(self, i: int, conv: nn.Conv2d) -> None:
        self.add_module(f"bn{i}", nn.BatchNorm2d(conv.in_channels))
        self.add_module(f"conv{i}", conv)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for k in range(3 * self.blocks):
            first = 3 * k + 2
            normed = F.relu(getattr(self, f"bn{first}")(x))
            y = getattr(self, f"conv{first}")(normed)
            for i in (first + 1, first + 2):
                y = getattr(self, f"conv{i}")(F.relu(getattr(self, f"bn{i}")(y)))
            if not k % self.blocks:
                x = getattr(self, f"shortcut{k // self.blocks + 1}")(normed)
            x = x + y
        return self.linear(F.relu(self.bn(x)).mean((2, 3)))


def resnet_cifar(
    shape: tuple[int, ...], classes: int, /, *, depth: int, bottleneck: bool
) -> nn.Module:
    """The residual network of ``depth`` layers for images of ``shape`` (channels, 32, 32).

    Without bottlenecks depth is 6 n + 2 and ReLUs follow the additions; with them it is 9 n + 2 and
    every convolution has its norm and ReLU before it.  Parameters with 3 channels and 10 classes:
    853,018 for depth 56, 1,703,258 for depth 164 with bottlenecks.
    """
    if type(bottleneck) is not bool:
        raise SettingError("bottleneck", "must be true or false", bottleneck)
    step = 9 if bottleneck else 6
    if type(depth) is not int or depth < step + 2 or (depth - 2) % step:
        bound = f"must be {step} n + 2 with n of at least 1 ({step + 2}, {2 * step + 2}, …)"
        raise SettingError("depth", bound, depth)
    return (Bottlenecks if bottleneck else Plain)(shape[0], classes, (depth - 2) // step)
