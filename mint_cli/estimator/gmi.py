"""Conditional geometric mutual information: Friedman–Rafsky estimate of a Henze–Penrose divergence.

The joint law of (child X, parent group Y, other parents Z) is compared with the law under which X
and Y are independent given Z: D = 1 − 2 ∫ f g / (f + g), 0 for equal laws and 1 for disjoint ones
(Yasaei Sekeh and Hero, Entropy 21(8):787, 2019).  Rows are split at random into three disjoint
thirds: joint rows; rows whose Y is replaced; donors of that Y, the donor being the nearest in Z
that has not served yet.  (Donors that serve again leave repeated Y, whose rows join one another in
the tree: +.06 under conditional independence, at any number of samples.)  With R edges of the joint
minimum spanning tree between the m joint and the m replaced rows, D ≈ 1 − R/m: raw, unclipped,
negative by chance under independence.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.kernel import tree
from mint_cli.kernel.distance import grid
from mint_cli.kernel.sample import Side, check_rows, from_splits, sides, silence_dead, standardised
from mint_cli.protocol import Estimate, checked_by

LEAST_ROWS = 6  # two rows in every third
SCALES = ("none", "standard", "block")


def check(rows: int, /, *, splits: int, scale: str) -> None:
    """Raise SettingError for a setting outside its bounds, or fewer rows than the estimator
    needs.
    """
    if splits < 1:
        raise SettingError("splits", "must be at least 1", splits)
    if scale not in SCALES:
        raise SettingError("scale", f"must be one of {', '.join(SCALES)}", scale)
    check_rows(rows, LEAST_ROWS)


@checked_by(check)
def gmi(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    splits: int,
    scale: str,
) -> Estimate:
    """Divergence, at most 1, between every child group and parent group given all other parents,
    averaged over ``splits``.

    ``scale`` standardises channels (standard) and also gives X, Y and Z equal energy (block).  The
    population value is unchanged by it, as by any invertible map of each block; the estimate's bias
    and variance are not.
    """
    check(len(child), splits=splits, scale=scale)
    x, p = sides(child, parent, child_groups, parent_groups)
    x, p, own, rest = _scaled(x, p, scale)
    where = tree.device(child)
    positions, step = grid(p.values)
    x_values, positions = (x.values / step).to(where), positions.to(where)
    scores = []
    for _ in range(splits):
        order = torch.from_numpy(rng.permutation(len(positions))).to(where)
        scores.append(silence_dead(_split(x_values, positions, x, p, own, rest, order), x, p))
    return from_splits(scores)


def conditional_gmi(x, y, z, rng: np.random.Generator, /, *, splits: int, scale: str) -> float:
    """The same for one triple x (n, dx), y (n, dy), z (n, dz) or None for no condition; arrays or
    tensors.
    """
    child, parents = (
        torch.as_tensor(x),
        [torch.as_tensor(side) for side in (y, z) if side is not None],
    )
    labels = torch.arange(len(parents)).repeat_interleave(
        torch.tensor([side.shape[1] for side in parents])
    )
    child_labels = torch.zeros(child.shape[1], dtype=torch.int64)
    return float(
        gmi(
            child, torch.cat(parents, 1), child_labels, labels, rng, splits=splits, scale=scale
        ).score[0, 0]
    )


def _scaled(x: Side, p: Side, scale: str) -> tuple[Side, Side, Tensor, Tensor]:
    """Both sides in the asked scale, and per parent group the weights of its own squared distances
    and of the rest's.
    """
    one = torch.ones(len(p), dtype=torch.float64)
    if scale == "none":
        return x, p, one, one
    x, p = standardised(x), standardised(p)
    if scale == "standard":
        return x, p, one, one
    # Standardised, a block's energy is its number of live channels.
    width = torch.repeat_interleave(x.live_counts().clamp(min=1), x.starts.diff())
    own = p.live_counts()
    x = Side(x.values / width.sqrt(), x.starts, x.live)
    return x, p, 1 / own.clamp(min=1), 1 / (own.sum() - own).clamp(min=1)


def _split(
    x_values: Tensor, positions: Tensor, x: Side, p: Side, own: Tensor, rest: Tensor, order: Tensor
) -> Tensor:
    """One estimate per pair from rows in this order: first third joint, second with replaced
    parents, third donors.
    """
    m = len(order) // 3
    rows, donors = order[: 2 * m], positions[order[2 * m : 3 * m]]
    parent, starts = positions[rows], p.starts.to(positions.device)
    swapped = parent.clone()
    for block, index in zip(
        p.slices(), tree.nearest_outside(parent[m:], donors, starts, once=True), strict=True
    ):
        swapped[m:, block] = donors[index][:, block]
    counts = tree.edge_counts(
        x_values[rows], x.starts.to(starts.device), parent, swapped, starts, own, rest, first=m
    )
    return 1 - counts.double() / m
