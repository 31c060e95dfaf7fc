"""What the published MINT code computes, defect by defect, rewritten from a description of it.

Use it to reproduce the paper's scores and to show the difference; ``mint_cli.estimator.gmi``
measures what this claims to.

* Independent pairing: child and parent rows are drawn independently, with replacement, so that row
i of the child is
  another image than row i of the parents and the true information is 0 for every pair (``unpaired:
  true``).
* Replacement: rows repeat, and edges of length 0 are left out of the tree, so that duplicates hang
on longer edges.
* Bootstrap index: donors are searched for the wrong half of the rows, so that the replaced parents
are arbitrary ones
  and what is measured is *unconditional* dependence of (child, other parents) and parent group.
* Edges: the column of the i-th stored edge is compared with the counter i, not with the row of that
edge.

The rest is as meant: three thirds, the estimate 1 − r / m, r at most m.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.kernel import tree
from mint_cli.kernel.distance import grid
from mint_cli.kernel.sample import Side, check_rows, from_splits, sides, silence_dead
from mint_cli.protocol import Estimate, checked_by

LEAST_ROWS = 6


def check(rows: int, /, *, splits: int, unpaired: bool) -> None:
    """Raise SettingError for a setting outside its bounds, or fewer rows than the estimator
    needs.
    """
    if splits < 1:
        raise SettingError("splits", "must be at least 1", splits)
    check_rows(rows, LEAST_ROWS)


@checked_by(check)
def published(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    splits: int,
    unpaired: bool,
) -> Estimate:
    """The published score of every pair, in [0, 1], averaged over ``splits`` draws of rows (the
    paper drew once).
    """
    check(len(child), splits=splits, unpaired=unpaired)
    x, p = sides(child, parent, child_groups, parent_groups)
    positions, step = grid(p.values)
    positions = positions.to(tree.device(child))
    scores = [
        silence_dead(_draw(x, p, positions, step, unpaired, rng), x, p) for _ in range(splits)
    ]
    return from_splits(scores)


def _draw(
    x: Side, p: Side, positions: Tensor, step: float, unpaired: bool, rng: np.random.Generator
) -> Tensor:
    """One score per pair from one draw of rows: two thirds for the bootstrap, then the real
    rows.
    """
    n = len(positions)
    child_rows, parent_rows = (
        rng.integers(n, size=(2, n)) if unpaired else (rng.permutation(n),) * 2
    )
    m = n // 3
    order = np.r_[2 * m : 3 * m, :m]  # real rows, then those that get other parents
    child, parent = (
        (x.values[child_rows[order]] / step).to(positions.device),
        positions[parent_rows[order]],
    )
    starts = p.starts.to(positions.device)
    fitted, queried = parent[m:], positions[parent_rows[m : 2 * m]]
    swapped = parent.clone()
    # The neighbours found are numbers of fitted rows, yet they pick among the queried rows.
    for block, index in zip(
        p.slices(), tree.nearest_outside(queried, fitted, starts, once=False), strict=True
    ):
        swapped[m:, block] = queried[index][:, block]
    one = torch.ones(len(p), dtype=torch.float64)
    counts = tree.edge_counts(
        child,
        x.starts.to(starts.device),
        parent,
        swapped,
        starts,
        one,
        one,
        first=m,
        read=tree.columns_against_counter,
        drop_zero=True,
    )
    return 1 - counts.clamp(max=m).double() / m
