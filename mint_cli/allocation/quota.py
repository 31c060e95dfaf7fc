"""What the allocations share: caps, exact counts, and the order in which cells go."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.protocol import Masks, Tensors


def cap_of(layer: str, cap: float, caps: dict[str, float]) -> float:
    """Most of a layer that may go, as a fraction of its weights."""
    value = caps.get(layer, cap)
    if not 0 <= value <= 1:
        raise SettingError(f"{f'pruner.caps.{layer}' if layer in caps else 'pruner.cap'} must lie in [0, 1], not {value}")
    return value


def most_cells(layer: str, cells: int, cap: float, caps: dict[str, float]) -> int:
    """Most cells that a layer may lose: its cap, and never all of them."""
    return min(math.floor(cap_of(layer, cap, caps) * cells + 1e-9), cells - 1)


def quota(scores: Tensors, weights: dict[str, int], sparsity: float, of: str) -> int:
    """Weights to remove: ``sparsity`` of the prunable weights or of all convolution and linear weights."""
    if not 0 <= sparsity < 1:
        raise SettingError(f"pruner.sparsity must lie in [0, 1), not {sparsity}")
    if of not in ("prunable", "all"):
        raise SettingError(f"pruner.of must be one of prunable, all, not {of}")
    return round(sparsity * sum(weights[name] for name in (scores if of == "prunable" else weights)))


def lowest_first(score: Tensor) -> Tensor:
    """Flat indices of the cells from the lowest score on; equal scores in order of position."""
    return score.flatten().sort(stable=True).indices


def without(score: Tensor, cells: Tensor) -> Tensor:
    """Mask of a layer that keeps all but the given flat cells."""
    mask = torch.ones(score.numel(), dtype=torch.bool)
    mask[cells] = False
    return mask.view(score.shape)


def layerwise(scores: Tensors, counts: dict[str, int]) -> Masks:
    """Masks that remove a given number of lowest cells from every layer."""
    return {name: without(score, lowest_first(score)[: counts[name]]) for name, score in scores.items()}
