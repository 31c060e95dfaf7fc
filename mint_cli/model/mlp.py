"""Multi-layer perceptron; with hidden layers 500 and 300 the network of MINT's MNIST row."""

from __future__ import annotations

import math

from torch import nn

from mint_cli.errors import SettingError


def mlp(shape: tuple[int, ...], classes: int, /, *, hidden: list[int], dropout: float) -> nn.Module:
    """Linear layers fc1, fc2, … with ReLU and dropout between them."""
    if not hidden or min(hidden) < 1:
        raise SettingError("hidden", "must be a list of widths of at least 1", hidden)
    if not 0 <= dropout < 1:
        raise SettingError("dropout", "must lie in [0, 1)", dropout)
    widths = [math.prod(shape), *hidden, classes]
    model = nn.Sequential()
    model.add_module("flatten", nn.Flatten())
    for i, (entering, leaving) in enumerate(zip(widths, widths[1:], strict=False), 1):
        model.add_module(f"fc{i}", nn.Linear(entering, leaving))
        if i < len(widths) - 1:
            model.add_module(f"relu{i}", nn.ReLU())
            model.add_module(f"dropout{i}", nn.Dropout(dropout))
    return model
