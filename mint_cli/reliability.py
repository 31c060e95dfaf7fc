"""How far a score can be relied on: agreement of two halves, shares of variance, ties."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from mint_cli.protocol import Estimate


def report(estimate: Estimate) -> dict[str, float | bool | None]:
    """Reliability of one site's score; a figure that is not defined is None.

    ``agreement``: Spearman correlation of the two halves; ``child``, ``parent``, ``interaction``:
    shares of the score's variance by child group, parent group and neither alone; ``tied``:
    fraction of cells that share their value; ``equal``: whether all do.
    """
    score = estimate.score.cpu()
    shares = variance_shares(score)
    equal = bool(score.numel() > 1 and (score == score.flatten()[0]).all())
    return {"agreement": agreement(estimate), **shares, "tied": tied(score), "equal": equal}


def agreement(estimate: Estimate) -> float | None:
    """Spearman correlation between two estimates from disjoint halves; None when either is constant
    or there are none.
    """
    if estimate.halves is None:
        return None
    first, second = (np.asarray(half).ravel() for half in estimate.halves)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)


def variance_shares(score: Tensor) -> dict[str, float | None]:
    """Shares of the variance of a two-way table (child, parent) by row effect, column effect and
    interaction; they sum to 1.
    """
    table = np.asarray(score.double())
    table = table.reshape(table.shape[0], -1)
    if np.ptp(table) == 0:  # the variance of a constant may be a rounding error
        return {"child": None, "parent": None, "interaction": None}
    total = table.var()
    child, parent = table.mean(1).var() / total, table.mean(0).var() / total
    return {
        "child": float(child),
        "parent": float(parent),
        "interaction": float(1 - child - parent),
    }


def tied(score: Tensor) -> float:
    """Fraction of cells whose value occurs more than once."""
    _, counts = np.unique(np.asarray(score), return_counts=True)
    return float(counts[counts > 1].sum() / score.numel())
