"""Elimination at single weights: every output is a child group, every column of the flat weight
(out, k) a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mint_cli.kernel import elimination as kernel
from mint_cli.kernel.threads import as_many_as_torch
from mint_cli.solver import equations as eq
from mint_cli.solver.rows import Problem, solve

CHUNK = 8  # outputs that choose at once, each given the errors that all the others made before


@dataclass(frozen=True)
class Ready:
    """One layer's normal equations in float32, and how many columns every output ranks."""

    gram: Tensor  # (k, k), regularised
    cross: Tensor  # (out, k)
    metric: Tensor  # (out, out)
    inverse: Tensor | None  # (k, k) of the gram; None where outputs grow first
    depth: int

    @property
    def own(self) -> Tensor:
        """What an error of each output alone counts: (out, 1)."""
        return self.metric.diagonal()[:, None]


def ready(equations: eq.Normal, metric: Tensor, depth: int) -> Ready:
    """The layer, of which every output ranks ``depth`` columns: all, or those that explain most."""
    inverse = None
    if depth == len(equations.gram):
        inverse = torch.cholesky_inverse(eq.factor(equations.gram)).float().cpu()
    gram, cross = equations.gram.float().cpu(), equations.cross.T.float().contiguous().cpu()
    return Ready(gram, cross, metric.float().cpu(), inverse, depth)


def taken(
    matrices: Tensor,
    values: Tensor,
    count: int,
    largest: bool,
    keep: Tensor | None,
    gone: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``kernel.elimination.take`` for tensors; ``keep`` or ``gone`` None: of no output."""
    m, k = values.shape
    ended = np.full(m, -1) if keep is None else keep.numpy()
    lost = np.zeros((m, k), bool) if gone is None else gone.numpy()
    stacked = matrices.reshape(-1, k, k).contiguous().numpy()
    with as_many_as_torch():
        found = kernel.take(stacked, values.contiguous().numpy(), lost, largest, ended, count)
    return tuple(torch.from_numpy(a) for a in found)


def ranked(
    layer: Ready, cross: Tensor, keep: Tensor | None = None, gone: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Order in which outputs with ``cross`` (m, k) lose columns, the cheapest given the rest first.

    Returns int64 (m, depth), the rise of the error at every step (m, depth), and the weights where
    ``keep`` int64 (m,) columns are left (m, k).  Columns ``gone`` bool (m, k) go first, free.
    """
    if layer.inverse is None:
        return regrown(layer, cross, keep, gone)
    return taken(layer.inverse, cross @ layer.inverse, cross.shape[1], False, keep, gone)


def regrown(
    layer: Ready, cross: Tensor, keep: Tensor | None, gone: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``ranked``, of the ``depth`` columns alone that explain most given those added before."""
    names = taken(layer.gram, cross, layer.depth, True, None, gone)[0]
    orders, rises, kept = [], [], torch.zeros_like(cross)
    for rows in torch.arange(len(cross)).split(CHUNK):  # an inverse an output is much to hold
        at = names[rows]
        factor = eq.factor(layer.gram[at[:, :, None], at[:, None, :]].double())
        full = torch.cholesky_solve(cross[rows].gather(1, at)[:, :, None].double(), factor)
        inverse, left = torch.cholesky_inverse(factor).float(), keep if keep is None else keep[rows]
        lost = gone if gone is None else gone[rows].gather(1, at)
        own, rise, weights = taken(inverse, full[:, :, 0].float(), layer.depth, False, left, lost)
        orders.append(at.gather(1, own))
        rises.append(rise)
        kept[rows[:, None], at] = weights
    return torch.cat(orders), torch.cat(rises), kept


def charged(order: Tensor, rises: Tensor, k: int) -> Tensor:
    """Costs (m, k), float64: each column's rise, never below an earlier one; 0 if not ranked."""
    rises = rises.double().clamp_min(0.0).cummax(1).values
    return torch.zeros(len(order), k, dtype=torch.float64).scatter(1, order, rises)


def costs(layer: Ready, gone: Tensor | None = None, beyond: bool = False) -> Tensor:
    """Rise of the error that the logits feel as each weight goes, errors of other outputs left out:
    (out, k).

    Weights that are not ranked cost 0, or with ``beyond`` what they would still explain beside
    those that are, at most the least rise of their output.
    """
    every = torch.full((len(layer.cross),), layer.depth) if beyond else None
    order, rises, kept = ranked(layer, layer.cross, every, gone)
    found = charged(order, rises * layer.own, len(layer.gram))
    if beyond and layer.depth < len(layer.gram):
        left = layer.cross - kept @ layer.gram
        gains = (left.square() / layer.gram.diagonal() * layer.own).double()
        least = (rises[:, :1] * layer.own).double().clamp_min(0.0)
        ranked_ones = torch.zeros(found.shape, dtype=torch.bool).scatter(1, order, True)
        found = torch.where(ranked_ones, found, torch.minimum(gains, least))
    return found


def sweep(
    layer: Ready, weights: Tensor, counts: Tensor, gone: Tensor | None = None, chunk: int = CHUNK
) -> Tensor:
    """Costs (out, k) as ``chunk`` outputs at a time choose anew, given what errors all others make.

    With those fixed the metric A turns output c's targets t into t + Σ_d A_cd (t_d − w_d u) / A_cc
    over the others d.  ``weights`` (out, k) are those of now; output c keeps ``counts[c]`` of them
    while the others choose.
    """
    weights, found = weights.float().clone(), torch.empty(weights.shape, dtype=torch.float64)
    left = layer.metric @ (layer.cross - weights @ layer.gram)
    for rows in torch.arange(len(weights)).split(chunk):
        own, lost = layer.own[rows], gone if gone is None else gone[rows]
        wanted = weights[rows] @ layer.gram + left[rows] / own
        order, rises, anew = ranked(layer, wanted, counts[rows], lost)
        found[rows] = charged(order, rises * own, len(layer.gram))
        left -= layer.metric[:, rows] @ ((anew - weights[rows]) @ layer.gram)
        weights[rows] = anew
    return found


def costliest(cost: Tensor, count: int) -> Tensor:
    """Support bool (m, k) of the ``count`` weights that cost most; of equals the first stay."""
    at = cost.flatten().argsort(descending=True, stable=True)[:count]
    return torch.zeros(cost.numel(), dtype=torch.bool).index_fill(0, at, True).view(cost.shape)


def cut(order: Tensor, counts: Tensor, k: int) -> Tensor:
    """Support bool (m, k) of the last ``counts`` int64 (m,) columns of every output's order."""
    stays = torch.arange(order.shape[1]) >= order.shape[1] - counts[:, None]
    return torch.zeros(len(order), k, dtype=torch.bool).scatter(1, order, stays)


def choose(
    problem: Problem, count: int, depth: int, sweeps: int, gone: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Support bool (out, k) of the ``count`` weights that carry most, and the best weights on it.

    Weights ``gone`` bool (out, k), of an earlier round, stay gone while others can fill the count.
    """
    layer = ready(problem.equations, problem.metric, depth)

    def solved(cost: Tensor) -> tuple[Tensor, Tensor]:
        support = costliest(cost if gone is None else cost.masked_fill(gone, -1.0), count)
        return support, solve(problem, support.to(problem.metric.device))

    support, weights = solved(costs(layer, gone))
    for _ in range(sweeps):
        support, weights = solved(sweep(layer, weights.cpu(), support.sum(1), gone))
    return support, weights
