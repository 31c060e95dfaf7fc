"""What the allocations share: caps, exact counts, and the order in which cells go."""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.protocol import Kept, Tensors


def cap_of(site: str, cap: float, caps: dict[str, float]) -> float:
    """Most of a site that may go, as a fraction of its weights."""
    value = caps.get(site, cap)
    if not 0 <= value <= 1:
        raise SettingError(f"caps.{site}" if site in caps else "cap", "must lie in [0, 1]", value)
    return value


def wanted_count(wanted: int | None) -> int:
    """The number of weights to remove; SettingError without one."""
    if wanted is None:
        raise SettingError("sparsity", "must be a number for this allocation", "null")
    return wanted


def lowest_first(score: Tensor) -> Tensor:
    """Flat indices of the cells from the lowest score on; equal scores in order of position."""
    return score.flatten().sort(stable=True).indices


def candidates(score: Tensor, sizes: Tensor, cap: float) -> Tensor:
    """Flat indices of the cells that may go, lowest first: within the cap, and never all of
    a site.
    """
    order = lowest_first(score)[: score.numel() - 1]
    most = cap * int(sizes.sum()) + 1e-9
    return order[sizes.flatten()[order].cumsum(0) <= most]


def without(score: Tensor, cells: Tensor) -> Tensor:
    """A site's choice that keeps all but the given flat cells."""
    kept = torch.ones(score.numel(), dtype=torch.bool)
    kept[cells] = False
    return kept.view(score.shape)


def sitewise(scores: Tensors, counts: dict[str, int]) -> Kept:
    """The choice that removes a given number of lowest cells from every site."""
    return {
        site: without(score, lowest_first(score)[: counts[site]]) for site, score in scores.items()
    }
