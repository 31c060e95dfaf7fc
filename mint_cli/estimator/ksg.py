"""Conditional information by counting k nearest neighbours (Frenzel and Pompe, PRL 99:204101,
2007), for small dimensions.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.kernel import neighbour
from mint_cli.kernel.sample import Side, check_rows, from_samples, sides, silence_dead, standardised
from mint_cli.protocol import Estimate, checked_by


def check(rows: int, /, *, neighbours: int) -> None:
    """Raise SettingError for a setting outside its bounds, or fewer rows than the estimator
    needs.
    """
    if neighbours < 1:
        raise SettingError("neighbours", "must be at least 1", neighbours)
    check_rows(rows, 2 * (neighbours + 1))


@checked_by(check)
def ksg(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    neighbours: int,
) -> Estimate:
    """Nats between every child and parent group given all other parents; channels are standardised,
    gaps by the largest.

    Raw: negative by chance under independence, and pulled towards 0 where the condition has many
    dimensions.
    """
    check(len(child), neighbours=neighbours)
    x, p = sides(child, parent, child_groups, parent_groups)

    def estimate(x: Side, p: Side) -> Tensor:
        values = standardised(x).values, x.starts, standardised(p).values, p.starts
        return silence_dead(neighbour.information(*values, neighbours), x, p)

    return from_samples(estimate, x, p, rng)
