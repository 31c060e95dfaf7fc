"""Random scores: the control that every table needs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mint_cli.protocol import Cells, Estimate, Images


def random(
    model: nn.Module, cells: dict[str, Cells], images: Images, rng: np.random.Generator, /
) -> dict[str, Estimate]:
    """The mean of two uniform numbers per cell; each is a half, so that their agreement shows what
    noise agrees by.
    """
    estimates = {}
    for site, own in cells.items():
        halves = tuple(torch.from_numpy(rng.random(own.shape)) for _ in range(2))
        estimates[site] = Estimate(sum(halves) / 2, halves)
    return estimates
