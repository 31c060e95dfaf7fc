"""MINT's Algorithm 2: one cut-off for all layers, a quantile of the *unique* scores; the share that goes is an outcome."""

from __future__ import annotations

import torch

from mint_cli.errors import SettingError
from mint_cli.protocol import Masks, Tensors
from mint_cli.allocation.quota import layerwise, most_cells


def threshold(scores: Tensors, weights: dict[str, int], /, *, quantile: float, cap: float, caps: dict[str, float]) -> Masks:
    """Remove every cell at or below the ``quantile`` of the unique scores, at most ``cap`` of a layer.

    Source: MINT, Algorithm 2.  With tied scores the share removed differs from the quantile: that is how the paper's
    sparsities came about.  The cap holds exactly here, which it did not there.
    """
    if not 0 <= quantile < 1:
        raise SettingError(f"pruner.allocation.quantile must lie in [0, 1), not {quantile}")
    unique = torch.cat([s.flatten().double() for s in scores.values()]).unique()
    cut = unique[round(quantile * (len(unique) - 1))]
    below = {name: int((s.double() <= cut).sum()) if quantile else 0 for name, s in scores.items()}
    return layerwise(scores, {name: min(below[name], most_cells(name, s.numel(), cap, caps)) for name, s in scores.items()})
