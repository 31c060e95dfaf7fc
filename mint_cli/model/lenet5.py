"""LeNet-5 with ReLU and max pooling (LeCun et al. 1998, in its usual modern form)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from mint_cli.errors import DataError


def lenet5(shape: tuple[int, ...], classes: int, /) -> nn.Module:
    """conv1 (6, 5×5, padded), conv2 (16, 5×5), fc1 (120), fc2 (84), fc3."""
    channels, height, width = shape
    if min(height, width) < 12:
        raise DataError(f"model=lenet5 needs images of at least 12×12 pixels, not {height}×{width}")
    size = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(size, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )
