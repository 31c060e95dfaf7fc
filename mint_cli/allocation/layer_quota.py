"""The same sparsity in every site: compares criteria within sites only."""

from __future__ import annotations

from torch import Tensor

from mint_cli.allocation.quota import lowest_first, sitewise, wanted_count
from mint_cli.errors import Unreachable
from mint_cli.protocol import Kept, Tensors


def layer_quota(scores: Tensors, sizes: Tensors, wanted: int | None, /) -> Kept:
    """Remove the same share of every site's weights, to the nearest cell, lowest scores first,
    never all of a site.
    """
    total = sum(int(own.sum()) for own in sizes.values())
    share = wanted_count(wanted) / total
    if share >= 1:
        raise Unreachable(total)
    return sitewise(scores, {site: nearest(scores[site], sizes[site], share) for site in scores})


def nearest(score: Tensor, sizes: Tensor, share: float) -> int:
    """How many of the lowest cells hold ``share`` of the site's weights most nearly; not all of
    them.
    """
    held = sizes.flatten()[lowest_first(score)].cumsum(0)
    off = (held - share * int(held[-1])).abs()
    count = int(off.argmin()) + 1 if off.min() < share * int(held[-1]) else 0
    return min(count, len(held) - 1)


layer_quota.by_site = True  # how much goes from where does not depend on the scores
