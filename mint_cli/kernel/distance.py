"""Squared distances that no order of summation, block decomposition or device can change.

Values are rounded once to a grid so fine that it keeps 20 to 26 bits of the widest channel's range,
and so coarse that every sum of squares is an integer below 2^53.  Float64 then adds, subtracts and
multiplies them exactly: a distance without one block is the full distance less the block's, equal
distances are equal, and duplicates are at distance 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def grid(values: Tensor) -> tuple[Tensor, float]:
    """Round float64 (n, channels) to whole multiples of a power of two: the multiples as float64,
    and the step.
    """
    low, high = values.amin(0), values.amax(0)
    reach = float((high - low).max()) / 2
    if reach == 0:
        return torch.zeros_like(values), 1.0
    # |q| <= most gives squared distances up to channels · (2 · most)², at most 2^53.
    most = 2 ** ((53 - math.log2(values.shape[1])) / 2 - 1) - 1
    step = 2.0 ** math.ceil(math.log2(reach / most))
    return ((values - (low + high) / 2) / step).round(), step


def squares(rows: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances of grid values, float64 (rows, others), exact."""
    return rows.square().sum(1)[:, None] + others.square().sum(1)[None, :] - 2 * (rows @ others.T)
