"""Information with the class by a mixture of Gaussians centred at the samples.

Kolchinsky & Tracey 2017 (Entropy 19, 361): the entropy of a mixture lies between what pairwise
distances of Bhattacharyya and of Kullback–Leibler give.  Used by Soltani et al. 2020.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import SettingError
from mint_cli.kernel.distance import squares
from mint_cli.kernel.labelled import from_classes, labelled
from mint_cli.protocol import Estimate, checked_by

log = logging.getLogger(__name__)

DIVISORS = {
    "upper": 2.0,
    "lower": 8.0,
    "left_out": 2.0,
}  # of a squared distance, times the variance
PAIRS = 2**20  # distances held at once
LOOKED_AT = 1000  # most samples that a bandwidth is chosen by
# what all other kernels add up to, beside 1 of its own, where a sample sees only itself
ALONE = 1e-6
SHARES = [2.0**-k for k in range(-4, 17)]  # variances tried, times the mean squared distance


def check(rows: int, /, *, bandwidth: float | None, form: str) -> None:
    """SettingError for a bandwidth that is none, or an unknown form."""
    if bandwidth is not None and not 0 < bandwidth < float("inf"):
        raise SettingError("bandwidth", "must be above 0, or null", bandwidth)
    if form not in DIVISORS:
        raise SettingError("form", f"must be one of {', '.join(DIVISORS)}", form)


@checked_by(check)
def mixture(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    bandwidth: float | None,
    form: str,
) -> Estimate:
    """H(T) − Σ p(y) H(T | y) of every child group T and the class y, nats, (child groups, 1).

    Every sample is the centre of a Gaussian of standard deviation ``bandwidth``.  ``form`` is the
    pairwise bound that both entropies are estimated by, ``upper`` or ``lower``; they bound the
    information itself where each class is one kernel.  ``left_out`` leaves a sample's own kernel
    out of both, so that in the mean it is no more than the information.  A ``bandwidth`` of None is
    the one by which the other samples foretell a sample's class best.
    """
    check(len(child), bandwidth=bandwidth, form=form)
    x, labels = labelled(child, parent, child_groups)
    alone: list[float] = []
    estimate = partial(information, bandwidth=bandwidth, form=form, alone=alone)
    found = from_classes(estimate, x, labels, rng)
    if max(alone) > 0.5:
        log.warning(
            "up to %.0f %% of the samples see no kernel but their own: scores are the "
            "entropy of the "
            "classes there; raise the bandwidth",
            100 * max(alone),
        )
    return found


mixture.of_classes = True  # its parent is the class


def information(
    x: Tensor, labels: Tensor, bandwidth: float | None, form: str, alone: list[float]
) -> float:
    """Information of features (n, d) and classes (n,), nats; to ``alone`` the share of lonely
    samples is added.
    """
    variance = chosen(x, labels) if bandwidth is None else bandwidth**2
    if variance == 0:  # all features are the same
        alone.append(0.0)
        return 0.0
    counts, total, lonely = torch.bincount(labels).double(), 0.0, 0
    for rows, distances in blocks(x):
        own, every, others = sums(
            distances, labels, rows, DIVISORS[form] * variance, form == "left_out"
        )
        total += float((own - every).sum())
        lonely += int((others < ALONE).sum())
    alone.append(0.0 if form == "left_out" else lonely / len(x))
    return total / len(x) + float(torch.special.entr(counts / len(x)).sum())


def sums(
    distances: Tensor, labels: Tensor, rows: Tensor, divisor: float, left_out: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every row the log of its kernels' sum over its own class and over all, and what others add
    up to.
    """
    here = torch.arange(len(rows))
    exponent = distances / -divisor
    others = exponent.clone()
    others[here, rows] = -torch.inf
    exponent = others if left_out else exponent
    same = torch.where(labels[None, :] == labels[rows][:, None], exponent, -torch.inf)
    return same.logsumexp(1), exponent.logsumexp(1), others.logsumexp(1).exp()


def chosen(x: Tensor, labels: Tensor) -> float:
    """The variance by which other samples foretell a sample's class best; 0.0 where nothing
    varies.
    """
    some = labels.argsort(stable=True)[:: -(-len(x) // LOOKED_AT)]  # of every class alike
    x, labels = x[some], labels[some]
    mean = 2 * float(x.var(0, correction=0).sum())
    if not mean > 0:
        return 0.0
    fit, least = torch.zeros(len(SHARES), dtype=torch.float64), torch.finfo(torch.float64).tiny
    for rows, distances in blocks(x):
        distances[torch.arange(len(rows)), rows] = torch.inf
        nearer = distances.amin(1, keepdim=True) - distances
        same = (labels[None, :] == labels[rows][:, None]).double()
        for i, share in enumerate(SHARES):
            kernels = (nearer / (2 * share * mean)).exp_()
            own = (kernels * same).sum(1).clamp_min(least)
            fit[i] += (own / kernels.sum(1)).log().sum()
    return SHARES[int(fit.argmax())] * mean


def blocks(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows after others, and their squared distances to all, float64."""
    centred = x - x.mean(0)
    for rows in torch.arange(len(x)).split(max(1, PAIRS // len(x))):
        yield rows, squares(centred[rows], centred).clamp_min(0.0)
