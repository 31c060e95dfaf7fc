"""Inverted residual blocks (Sandler et al. 2018): a small network that knows nothing of pruning."""

from torch import nn


class Block(nn.Module):
    """A 1×1 convolution to more channels, a depthwise 3×3, a 1×1 back; added to its input."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *layer(channels, inside, 1),
            *layer(inside, inside, 3, groups=inside),
            *layer(inside, channels, 1)[:2],  # no ReLU before the addition
        )

    def forward(self, x):
        y = self.branch(x)
        y += x
        return y


def layer(enter: int, leave: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution with its batch norm and a ReLU that overwrites what it is given."""
    conv = nn.Conv2d(enter, leave, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(leave), nn.ReLU(inplace=True)]


def mine(shape, classes, /):
    """The network for images of ``shape`` (channels, height, width)."""
    return nn.Sequential(
        *layer(shape[0], 16, 3, stride=2),
        Block(16, 48),
        *layer(16, 32, 3, stride=2),
        Block(32, 96),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
