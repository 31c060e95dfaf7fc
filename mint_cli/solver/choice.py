"""The information that blocks of one layer carry for the logits, each given those still kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mint_cli.solver import rows as cal
from mint_cli import group
from mint_cli.solver import equations as ls
from mint_cli.solver.rows import Problem


@dataclass(frozen=True)
class Layer:
    """One layer's problem, inputs in the order of its parent groups (filled up to ``size`` columns each), outputs by child group."""

    gram: Tensor  # (parents · size, parents · size) float32
    cross: Tensor  # (parents · size, out) float32
    metric: Tensor  # (out, out) float32
    columns: Tensor  # (parents, size): where they are in the flat weight, −1 none
    members: list[Tensor]  # outputs of every child group

    @property
    def size(self) -> int:
        return self.columns.shape[1]


def layer(equations: ls.Normal, metric: Tensor, child: Tensor, parent: Tensor) -> Layer:
    """The layer with outputs grouped by ``child`` (out,) and input channels by ``parent`` (in,)."""
    device = equations.gram.device
    columns = ls.blocks(parent, len(equations.gram) // len(parent)).to(device)
    members = [(child == c).nonzero()[:, 0].to(device) for c in range(int(child.max()) + 1)]
    return Layer(*ls.padded(equations, columns), metric.float(), columns, members)


def depth(problem: Layer, kept: float, growth: float) -> int:
    """Blocks that a child group grows to before it is eliminated: ``growth`` times those that it keeps in the mean, at least four."""
    return min(len(problem.columns), max(4, math.ceil(growth * kept)))


def costs(problem: Layer, count: int) -> Tensor:
    """Rise of the felt error as each block goes in its turn, errors of other child groups left out: (child groups, parent groups)."""
    found = torch.zeros(len(problem.members), len(problem.columns), device=problem.gram.device)
    for c, rows in enumerate(problem.members):
        order, rises = ls.ranked(problem.gram, problem.cross[:, rows] @ root(problem.metric[rows][:, rows]), problem.size, count)
        found[c, order] = rises
    return found.double().cpu()


def sweep(problem: Layer, weights: Tensor, kept: Tensor, count: int) -> Tensor:
    """Choose the blocks of one child group after another anew, given the errors that all the others make now.

    With the others' errors fixed the metric A turns the targets t of group c into t + A_cc⁻¹ A_c,rest (t_rest − W_rest u).
    ``weights`` (out, k) are those of now, ``kept`` (child groups, parent groups) says how many blocks each group keeps while the
    others choose.  Returns what ``costs`` does.
    """
    order, idle = problem.columns.flatten().clamp_min(0), problem.columns.flatten() < 0
    inside = weights.float()[:, order].masked_fill(idle, 0.0)
    left = problem.metric @ (problem.cross.T - inside @ problem.gram)
    found = torch.zeros(kept.shape, device=left.device)
    for c, rows in enumerate(problem.members):
        own = problem.metric[rows][:, rows]
        half = root(own)
        wanted = (inside[rows] @ problem.gram + torch.linalg.solve(own, left[rows])).T @ half
        blocks, rises = ls.ranked(problem.gram, wanted, problem.size, max(count, int(kept[c].sum())))
        found[c, blocks] = rises
        at = ls.spans(blocks[len(blocks) - int(kept[c].sum()) :], problem.size)
        anew = torch.zeros_like(inside[rows])
        anew[:, at] = torch.linalg.solve(half, torch.linalg.solve(problem.gram[at][:, at], wanted[at]).T)
        left -= problem.metric[:, rows] @ ((anew - inside[rows]) @ problem.gram)
        inside[rows] = anew
    return found.double().cpu()


def root(metric: Tensor) -> Tensor:
    """Symmetric square root of a positive definite matrix: errors times it have the identity as their metric."""
    values, vectors = torch.linalg.eigh(metric.double())
    return ((vectors * values.clamp_min(1e-12).sqrt()) @ vectors.T).float()


def dearest(cost: Tensor, mask: Tensor, child: Tensor, parent: Tensor) -> Tensor:
    """Mask (out, in): from blocks of every size as many cells go as in ``mask``, block after block, those that ``cost`` least first.

    The last block of a size may go in part, as in an allocation.
    """
    turn = group.expand(cost.flatten().argsort(stable=True).argsort().view(cost.shape), child, parent)  # no two blocks share theirs
    sizes = group.expand(torch.bincount(child)[:, None] * torch.bincount(parent)[None, :], child, parent)
    kept = torch.ones_like(mask)
    for size in sizes.unique():
        cells = (sizes == size).flatten().nonzero()[:, 0]
        gone = cells[turn.flatten()[cells].argsort(stable=True)[: int((~mask).flatten()[cells].sum())]]
        kept.view(-1)[gone] = False
    return kept


def worth(cost: Tensor) -> Tensor:
    """S · Δ / E of every block: Δ what it costs, E what its layer has left when it goes in its turn, S what the layer had.

    Where the noise is small a Gaussian channel of energy E carries ½ log E and a constant, so Δ / E is twice the information that
    the layer loses for the logits; S says how much of the logits depends on the layer.
    """
    values, order = cost.flatten().sort(descending=True, stable=True)
    energy = values.cumsum(0).clamp_min(torch.finfo(values.dtype).tiny)
    return torch.zeros_like(values).scatter(0, order, values * values.sum() / energy).view(cost.shape)


def choose(problem: Problem, mask: Tensor, child: Tensor, parent: Tensor, growth: float, sweeps: int) -> tuple[Tensor, Tensor]:
    """A mask (out, in) with as many cells as ``mask``, in the blocks that carry most, and the best weights (out, k) on it."""
    ready = layer(problem.equations, problem.metric, child, parent)

    def kept(mask: Tensor) -> Tensor:
        return group.block_mean(mask, child, parent) > 0

    def solved(cost: Tensor) -> tuple[Tensor, Tensor]:
        chosen = dearest(cost, mask, child, parent)
        return chosen, cal.solve(problem, cal.support(chosen, problem.module))

    count = depth(ready, float(kept(mask).sum(1).double().mean()), growth)
    chosen, weights = solved(costs(ready, count))
    for _ in range(sweeps):
        chosen, weights = solved(sweep(ready, weights, kept(chosen), count))
    return chosen, weights
