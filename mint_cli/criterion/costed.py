"""A criterion less what a channel costs (Molchanov et al. 2017, sections 2.3 and 2.4)."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor, nn

from mint_cli.errors import SettingError, owned
from mint_cli.network.cells import check_filters, unit
from mint_cli.network.cost import cell_macs
from mint_cli.network.layers import record
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by

MILLION = 1e6


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    base: partial,
    normalise: bool,
    cost: float,
) -> None:
    """Whole channels, a cost that is none or above 0, and what the criterion itself checks."""
    check_filters(cells)
    if not cost >= 0:
        raise SettingError("cost", "must be at least 0", cost)
    own = getattr(base.func, "check", None)
    if own:
        with owned("base"):
            own(layers, cells, labels, **base.keywords)


@checked_by(check)
def costed(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    base: partial,
    normalise: bool,
    cost: float,
) -> dict[str, Estimate]:
    """Score of ``base`` − ``cost`` × million multiply-accumulates that the channel takes part in.

    They are those of one image.  ``normalise`` divides each site's scores by their root sum of
    squares before.
    """
    layers = record(model, tuple(images.pixels.shape[1:]))
    parameters = dict(model.named_parameters())
    scored, estimates = base(model, cells, images, rng), {}
    for site, own in cells.items():
        price = cost * cell_macs(layers, parameters, own) / MILLION
        parts = (scored[site].score, *(scored[site].halves or ()))
        score, *halves = ((unit(p) if normalise else p).cpu() - price for p in parts)
        estimates[site] = Estimate(score, tuple(halves) or None)
    return estimates
