"""Conditional information of binned channels, from counts of symbols; for few channels and many
samples.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.kernel.sample import Side, check_rows, from_samples, sides, silence_dead
from mint_cli.protocol import Estimate, checked_by

LEAST_ROWS = 4  # two in each half


def check(rows: int, /, *, bins: int, corrected: bool) -> None:
    """Raise SettingError for a setting outside its bounds, or fewer rows than the estimator
    needs.
    """
    if bins < 2:
        raise SettingError("bins", "must be at least 2", bins)
    check_rows(rows, LEAST_ROWS)


@checked_by(check)
def binned(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    bins: int,
    corrected: bool,
) -> Estimate:
    """Nats between the binned child group and parent group given all other binned parents.

    Channels are cut by rank into at most ``bins`` of equal count; equal values share the bin of
    their middle rank. ``corrected`` adds to every entropy (symbols − 1) / 2n (Miller and Madow),
    which takes away most of the bias while symbols are few beside samples.
    """
    check(len(child), bins=bins, corrected=corrected)
    x, p = sides(child, parent, child_groups, parent_groups)

    def estimate(x: Side, p: Side) -> Tensor:
        return silence_dead(_information(_symbols(x, bins), _symbols(p, bins), corrected), x, p)

    return from_samples(estimate, x, p, rng)


def _information(children: list[np.ndarray], parents: list[np.ndarray], corrected: bool) -> Tensor:
    """I(X; Y | Z) = H(X, Z) + H(Y, Z) − H(Z) − H(X, Y, Z) of every pair of symbol columns."""
    score = torch.empty(len(children), len(parents), dtype=torch.float64)
    others = _all_others(parents)
    everything = _joined(parents[0], others[0])
    for g, rest in enumerate(others):
        known = entropy(everything, corrected) - entropy(rest, corrected)
        for c, symbol in enumerate(children):
            score[c, g] = (
                known
                + entropy(_joined(symbol, rest), corrected)
                - entropy(_joined(symbol, everything), corrected)
            )
    return score


def entropy(symbols: np.ndarray, corrected: bool) -> float:
    """Entropy in nats of the observed frequencies of ``symbols`` (n,), with or without Miller and
    Madow's correction.
    """
    counts = np.unique(symbols, return_counts=True)[1]
    share = counts / len(symbols)
    return float(
        -(share * np.log(share)).sum() + corrected * (len(counts) - 1) / (2 * len(symbols))
    )


def _symbols(it: Side, bins: int) -> list[np.ndarray]:
    """One integer per sample for every group: which combination of bins its channels are in."""
    ranks = rankdata(
        it.values.numpy(), axis=0
    )  # equal values have their middle rank: zeros of a sparse channel stay by themselves
    codes = ((ranks - 0.5) * bins / len(ranks)).astype(np.int64)
    return [np.unique(codes[:, own], axis=0, return_inverse=True)[1].ravel() for own in it.slices()]


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number the pairs of two symbol columns from 0."""
    return np.unique(first * (second.max() + 1) + second, return_inverse=True)[1]


def _all_others(parents: list[np.ndarray]) -> list[np.ndarray]:
    """For every group the joint symbol of all others: what comes before joined with what comes
    after.
    """
    before, after = [np.zeros_like(parents[0])], [np.zeros_like(parents[0])]
    for forward, backward in zip(parents[:-1], parents[:0:-1], strict=True):
        before.append(_joined(before[-1], forward))
        after.append(_joined(after[-1], backward))
    return [_joined(*pair) for pair in zip(before, reversed(after), strict=True)]
