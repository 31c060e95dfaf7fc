"""VGG16 for small images, as in MINT: 13 convolutions with batch norm, then linear 512 → 512 with
batch norm, then linear → classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mint_cli.errors import DataError

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
POOLED = (2, 4, 7, 10, 13)  # convolutions followed by 2×2 max pooling


class VGG16(nn.Module):
    """Layers conv1 … conv13, linear1 and linear3 in the order of definition; bn14 follows
    linear1.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        for i, (enter, leave) in enumerate(zip((channels, *WIDTHS), WIDTHS, strict=False), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(enter, leave, 3, padding=1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(leave))
        self.linear1 = nn.Linear(512, 512)
        self.bn14 = nn.BatchNorm1d(512)
        self.linear3 = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 14):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
            if i in POOLED:
                x = F.max_pool2d(x, 2)
        return self.linear3(F.relu(self.bn14(self.linear1(x.flatten(1)))))


def vgg16(shape: tuple[int, ...], classes: int, /) -> nn.Module:
    """VGG16 for images of ``shape`` (channels, 32, 32): 14,977,728 convolution and linear weights
    with 3 channels and 10 classes.
    """
    channels, height, width = shape
    if not (32 <= height < 64 and 32 <= width < 64):  # five poolings leave one pixel
        raise DataError(f"model=vgg16 needs images of 32×32 to 63×63 pixels, not {height}×{width}")
    return VGG16(channels, classes)
