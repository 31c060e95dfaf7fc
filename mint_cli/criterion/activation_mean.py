"""Mean activation of a channel (Molchanov et al. 2017, arXiv 1611.06440, section 2.2)."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli.network.maps import check, statistic
from mint_cli.protocol import Cells, Estimate, Images, checked_by


@checked_by(check)
def activation_mean(
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
    """Mean over images and positions of a channel as its readers see it, plain pixels.

    Negative activations count as such.  ``normalise`` as in l1.
    """
    settings = (samples_per_class, batch_size, normalise)
    return statistic(model, cells, images, rng, *settings, totals, mean)


def totals(layer: str, entering: Tensor) -> Tensor:
    """Sum of every input, (1, in)."""
    return entering.sum(2).double().sum(0)[None]


def mean(average: Tensor) -> Tensor:
    """The average itself."""
    return average
