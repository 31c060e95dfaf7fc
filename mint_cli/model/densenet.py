"""DenseNet-BC for small images (Huang et al. 2017, arXiv 1608.06993)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mint_cli.errors import DataError, SettingError

BLOCKS = 3  # with a transition, which halves the sides, between each two
WIDEN = 4  # channels between the two convolutions of a unit, for each that it adds


class Unit(nn.Module):
    """bn1, ReLU, conv1 (1×1), bn2, ReLU, conv2 (3×3); what comes out stands behind what came in."""

    def __init__(self, enter: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(enter)
        self.conv1 = nn.Conv2d(enter, WIDEN * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(WIDEN * growth)
        self.conv2 = nn.Conv2d(WIDEN * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(F.relu(self.bn2(y)))], 1)


class Block(nn.Module):
    """Units one after another, each of which reads all that stand before it."""

    def __init__(self, enter: int, growth: int, units: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Unit(enter + i * growth, growth) for i in range(units)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Transition(nn.Module):
    """bn1, ReLU, conv1 (1×1) to fewer channels, the mean of every 2×2 pixels."""

    def __init__(self, enter: int, leave: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(enter)
        self.conv1 = nn.Conv2d(enter, leave, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """conv1, then block1, trans1, block2, trans2, block3, then bn1 and fc.

    Names are those of widespread checkpoints, which can so be matched by name.
    """

    def __init__(
        self, channels: int, classes: int, units: int, growth: int, reduction: float
    ) -> None:
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"block{number}", Block(width, growth, units))
            width += units * growth
            if number < BLOCKS:
                fewer = int(width * reduction)
                self.add_module(f"trans{number}", Transition(width, fewer))
                width = fewer
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in range(1, BLOCKS + 1):
            x = getattr(self, f"block{number}")(x)
            if number < BLOCKS:
                x = getattr(self, f"trans{number}")(x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


def densenet(
    shape: tuple[int, ...], classes: int, /, *, depth: int, growth: int, reduction: float
) -> nn.Module:
    """DenseNet-BC of ``depth`` layers whose units add ``growth`` channels each.

    Transitions keep the share ``reduction`` of the channels.  With depth 100, growth 12, reduction
    .5, 3 channels and 10 classes it has 769,162 parameters.
    """
    least = 2 * BLOCKS + 4
    if type(depth) is not int or depth < least or (depth - 4) % (2 * BLOCKS):
        raise SettingError("depth", f"must be 6 n + 4 with n of at least 1 ({least}, 16, …)", depth)
    if type(growth) is not int or growth < 1:
        raise SettingError("growth", "must be a whole number of at least 1", growth)
    if not 0 < reduction <= 1 or int(3 * growth * reduction) < 1:
        raise SettingError("reduction", "must lie in (0, 1] and leave a channel", reduction)
    channels, height, width = shape
    if min(height, width) < 4:
        raise DataError(f"DenseNet-BC needs images of at least 4×4 pixels, not {height}×{width}")
    return DenseNet(channels, classes, (depth - 4) // (2 * BLOCKS), growth, reduction)
