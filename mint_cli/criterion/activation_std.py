"""Standard deviation of a channel's activation (Molchanov et al. 2017, arXiv 1611.06440)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.network.maps import check, statistic
from mint_cli.protocol import Cells, Estimate, Images, checked_by


@checked_by(check)
def activation_std(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    samples_per_class: int,
    batch_size: int,
    normalise: bool,
) -> dict[str, Estimate]:
    """Standard deviation over images and positions of a channel as its readers see it.

    Of all values that were seen, without a correction for their number; plain pixels; ``normalise``
    as in l1.
    """
    settings = (samples_per_class, batch_size, normalise)
    return statistic(model, cells, images, rng, *settings, totals, deviation)


def totals(layer: str, entering: Tensor) -> Tensor:
    """Sums of every input and of its square, (2, in), by each image's own mean: it is stable."""
    means, positions = entering.mean(2).double(), entering.shape[2]
    squares = entering.var(2, correction=0).double() + means.square()
    return positions * torch.stack([means.sum(0), squares.sum(0)])


def deviation(mean: Tensor, square: Tensor) -> Tensor:
    """Standard deviation of a mean and a mean square."""
    return (square - mean.square()).clamp_min(0).sqrt()
