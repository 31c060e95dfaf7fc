"""Average percentage of zeros (Hu et al. 2016, arXiv 1607.03250), as a score to keep by."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli.errors import DataError
from mint_cli.network.maps import check, statistic
from mint_cli.protocol import Cells, Estimate, Images, checked_by


@checked_by(check)
def apoz(
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
    """Share of a channel's activations that are above 0, over images and positions: 1 − APoZ.

    As its readers see it, so after pooling where that comes first; plain pixels; ``normalise`` as
    in l1.  DataError where a layer reads negative values: no ReLU comes before it.
    """
    settings = (samples_per_class, batch_size, normalise)
    return statistic(model, cells, images, rng, *settings, positive, share)


def positive(layer: str, entering: Tensor) -> Tensor:
    """Positive values of every input, (1, in)."""
    if (entering < 0).any():
        raise DataError(
            f"layer {layer} reads negative activations: zeros are counted after ReLU only, so "
            "criterion apoz cannot judge its channels"
        )
    return (entering > 0).sum((0, 2))[None].double()


def share(above: Tensor) -> Tensor:
    """The share itself."""
    return above
