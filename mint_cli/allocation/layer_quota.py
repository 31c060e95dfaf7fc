"""The same sparsity in every layer: compares criteria within layers only."""

from __future__ import annotations

from mint_cli.errors import SettingError
from mint_cli.protocol import Masks, Tensors
from mint_cli.allocation.quota import layerwise, quota


def layer_quota(scores: Tensors, weights: dict[str, int], /, *, sparsity: float, of: str) -> Masks:
    """Remove ``sparsity`` of every layer's cells, to the nearest cell, lowest scores first, never all of a layer."""
    share = quota(scores, weights, sparsity, of) / sum(weights[name] for name in scores)
    if share >= 1:
        most = sum(weights[name] for name in scores) / sum(weights.values())
        raise SettingError(f"pruner.sparsity={sparsity} cannot be reached: the prunable layers hold {most:.4f} of all weights")
    return layerwise(scores, {name: min(round(share * s.numel()), s.numel() - 1) for name, s in scores.items()})
