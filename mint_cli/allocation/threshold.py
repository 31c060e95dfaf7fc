"""MINT's Algorithm 2: one cut-off for all sites, a quantile of the *unique* scores; the share that
goes is an outcome.
"""

from __future__ import annotations

import torch

from mint_cli.allocation.quota import candidates, cap_of, sitewise
from mint_cli.errors import SettingError
from mint_cli.protocol import Kept, Tensors


def threshold(
    scores: Tensors,
    sizes: Tensors,
    wanted: int | None,
    /,
    *,
    quantile: float,
    cap: float,
    caps: dict[str, float],
) -> Kept:
    """Remove every cell at or below the ``quantile`` of the unique scores, at most ``cap`` of a
    site; nothing is ``wanted``.

    Source: MINT, Algorithm 2.  With tied scores the share removed differs from the quantile: that
    is how the paper's sparsities came about.  The cap holds exactly here, which it did not there.
    """
    if not 0 <= quantile < 1:
        raise SettingError("quantile", "must lie in [0, 1)", quantile)
    unique = torch.cat([s.flatten().double() for s in scores.values()]).unique()
    cut = unique[round(quantile * (len(unique) - 1))]
    counts = {}
    for site, score in scores.items():
        below = int((score.double() <= cut).sum()) if quantile else 0
        counts[site] = min(below, len(candidates(score, sizes[site], cap_of(site, cap, caps))))
    return sitewise(scores, counts)


threshold.decides = True  # how much goes is an outcome
