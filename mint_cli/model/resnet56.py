"""ResNet56 for small images (He et al. 2016), with shortcuts that have no weights (option A)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64)
BLOCKS = 9  # in each stage, of two convolutions


class ResNet56(nn.Module):
    """Layers conv1 … conv55 and linear in the order of definition; block k holds conv(2k) and conv(2k + 1)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        leaving = [WIDTHS[0]] + [width for width in WIDTHS for _ in range(2 * BLOCKS)]
        for i, (enter, leave) in enumerate(zip([channels, *leaving], leaving, strict=False), start=1):
            stride = 2 if i > 1 and enter < leave else 1
            self.add_module(f"conv{i}", nn.Conv2d(enter, leave, 3, stride=stride, padding=1, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(leave))
        self.linear = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self._normed(1, x))
        for first in range(2, 6 * BLOCKS + 2, 2):
            y = self._normed(first + 1, F.relu(self._normed(first, x)))
            x = F.relu(y + shortcut(x, y.shape[1]))
        return self.linear(x.mean((2, 3)))

    def _normed(self, i: int, x: Tensor) -> Tensor:
        return getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))


def shortcut(x: Tensor, channels: int) -> Tensor:
    """``x`` itself, or every second pixel of it between as many zero channels on either side (option A)."""
    missing = channels - x.shape[1]
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing // 2)) if missing else x


def resnet56(shape: tuple[int, ...], classes: int, /) -> nn.Module:
    """ResNet56 for images of ``shape`` (channels, 32, 32): 853,018 parameters with 3 channels and 10 classes."""
    return ResNet56(shape[0], classes)
