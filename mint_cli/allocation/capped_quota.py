"""One global quota with a cap per site (MINT's constraint γ, enforced exactly)."""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.allocation.quota import candidates, cap_of, wanted_count, without
from mint_cli.errors import Unreachable
from mint_cli.protocol import Kept, Tensors


def capped_quota(
    scores: Tensors, sizes: Tensors, wanted: int | None, /, *, cap: float, caps: dict[str, float]
) -> Kept:
    """Remove ``wanted`` weights, cells of the lowest scores of all sites first, at most ``cap`` of
    a site.

    ``caps`` overrides the cap by site.  Never more than ``wanted`` go, and less by fewer than the
    smallest cell that could still go.  Raises Unreachable with the most that the caps allow.
    """
    wanted = wanted_count(wanted)
    may_go = {s: candidates(score, sizes[s], cap_of(s, cap, caps)) for s, score in scores.items()}
    reachable = sum(int(sizes[site].flatten()[cells].sum()) for site, cells in may_go.items())
    if wanted > reachable:
        raise Unreachable(reachable)
    values = torch.cat([scores[site].flatten()[cells].double() for site, cells in may_go.items()])
    weights = torch.cat([sizes[site].flatten()[cells] for site, cells in may_go.items()])
    parts = chosen(values, weights, wanted).split([len(cells) for cells in may_go.values()])
    return {
        site: without(scores[site], cells[part])
        for (site, cells), part in zip(may_go.items(), parts, strict=True)
    }


def chosen(values: Tensor, weights: Tensor, wanted: int) -> Tensor:
    """Which cells go, bool: in order of ``values`` while their ``weights`` fit into ``wanted``."""
    order = values.sort(stable=True).indices
    gone = torch.zeros(len(values), dtype=torch.bool)
    while len(
        order := order[weights[order] <= wanted]
    ):  # smaller cells fill what the next is too large for
        fits = weights[order].cumsum(0) <= wanted
        gone[order[fits]] = True
        wanted -= int(weights[order[fits]].sum())
        order = order[~fits]
    return gone
