"""Which cells of one layer stay: by what the logits lose without each, given those still kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mint_cli.network.cells import only_weight, rectangles
from mint_cli.protocol import Cells
from mint_cli.solver import blocks as bl
from mint_cli.solver import equations as eq
from mint_cli.solver import single
from mint_cli.solver.rows import Problem, solve

WHOLE = 1152  # inputs up to which every output of single weights is eliminated from all of them


@dataclass(frozen=True)
class Layer:
    """One layer's problem, inputs in the order of its parents (filled up to ``size`` columns each),
    outputs by child group.
    """

    gram: Tensor  # (parents · size, parents · size) float32
    cross: Tensor  # (parents · size, out) float32
    metric: Tensor  # (out, out) float32
    columns: Tensor  # (parents, size): where they are in the flat weight, −1 none
    members: list[Tensor]  # outputs of every child group
    child: Tensor  # (out,): child group of every output
    parent: Tensor  # (k,): parent of every column of the flat weight

    @property
    def size(self) -> int:
        return self.columns.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Child groups and parents."""
        return len(self.members), len(self.columns)

    @property
    def weights(self) -> Tensor:
        """Weights of every cell, int64 (child groups, parents)."""
        return torch.bincount(self.child)[:, None] * torch.bincount(self.parent)[None, :]


def layer(problem: Problem, cells: Cells) -> Layer:
    """The layer of a problem, cut into cells."""
    child, parent = rectangles(cells, only_weight(cells), tuple(problem.module.weight.shape))
    return cut(problem.equations, problem.metric, child, parent)


def cut(equations: eq.Normal, metric: Tensor, child: Tensor, parent: Tensor) -> Layer:
    """The layer with outputs grouped by ``child`` (out,) and columns of the flat weight by
    ``parent`` (k,).
    """
    device = equations.gram.device
    columns = bl.columns_of(parent).to(device)
    members = [(child == c).nonzero()[:, 0].to(device) for c in range(int(child.max()) + 1)]
    return Layer(*bl.padded(equations, columns), metric.float(), columns, members, child, parent)


def depth(problem: Layer, kept: float, growth: float) -> int:
    """Cells that a child group grows to before it is eliminated: ``growth`` times those that it
    keeps in the mean, at least four.
    """
    return min(len(problem.columns), max(4, math.ceil(growth * kept)))


def costs(problem: Layer, count: int, beyond: bool = False) -> Tensor:
    """Rise of the error that the logits feel as each cell goes in its turn, errors of other child
    groups left out.

    (child groups, parents).  Every child group ranks the ``count`` cells that it grows to; the
    others cost 0, or with ``beyond`` what they would still explain beside those, at most the least
    rise.
    """
    found = torch.zeros(problem.shape, device=problem.gram.device)
    for c, rows in enumerate(problem.members):
        target = problem.cross[:, rows] @ root(problem.metric[rows][:, rows])
        order, rises, gains = bl.ranked(problem.gram, target, problem.size, count)
        if beyond:
            found[c] = gains.clamp_max(float(rises[0]))
        found[c, order] = rises
    return found.double().cpu()


def sweep(problem: Layer, weights: Tensor, kept: Tensor, count: int) -> Tensor:
    """Choose the cells of one child group after another anew, given the errors that all the others
    make now.

    With the others' errors fixed the metric A turns the targets t of group c into
    t + A_cc⁻¹ A_c,rest (t_rest − W_rest u).  ``weights`` (out, k) are those of now, ``kept`` (child
    groups, parents) says how many cells each group keeps while the others choose.  Returns what
    ``costs`` does.
    """
    order, idle = problem.columns.flatten().clamp_min(0), problem.columns.flatten() < 0
    inside = weights.float()[:, order].masked_fill(idle, 0.0)
    left = problem.metric @ (problem.cross.T - inside @ problem.gram)
    found = torch.zeros(kept.shape, device=left.device)
    for c, rows in enumerate(problem.members):
        own = problem.metric[rows][:, rows]
        half = root(own)
        wanted = (inside[rows] @ problem.gram + torch.linalg.solve(own, left[rows])).T @ half
        stay = int(kept[c].sum())
        names, rises, _ = bl.ranked(problem.gram, wanted, problem.size, max(count, stay))
        found[c, names] = rises
        at = bl.spans(names[len(names) - stay :], problem.size)
        anew = torch.zeros_like(inside[rows])
        solved = torch.linalg.solve(problem.gram[at][:, at], wanted[at])
        anew[:, at] = torch.linalg.solve(half, solved.T)
        left -= problem.metric[:, rows] @ ((anew - inside[rows]) @ problem.gram)
        inside[rows] = anew
    return found.double().cpu()


def root(metric: Tensor) -> Tensor:
    """Symmetric square root of a positive definite matrix: errors times it have the identity as
    their metric.
    """
    values, vectors = torch.linalg.eigh(metric.double())
    return ((vectors * values.clamp_min(1e-12).sqrt()) @ vectors.T).float()


def cheapest(cost: Tensor, weights: Tensor, kept: Tensor, gone: Tensor) -> Tensor:
    """Which cells stay: of every size as many go as in ``kept``, those that are gone already and
    those that ``cost`` least first.

    All (child groups, parents); ``weights`` holds the sizes.
    """
    turn = (
        torch.where(gone, -1.0, cost).flatten().argsort(stable=True).argsort()
    )  # no two share theirs
    chosen = torch.ones_like(kept).flatten()
    for size in weights.unique():
        own = (weights == size).flatten().nonzero()[:, 0]
        count = int((~kept).flatten()[own].sum())
        chosen[own[turn[own].argsort()[:count]]] = False
    return chosen.view(kept.shape)


def worth(cost: Tensor) -> Tensor:
    """S · Δ / E of every cell: Δ what it costs, E what its layer has left when it goes in its turn,
    S what the layer had.

    Where the noise is small a Gaussian channel of energy E carries ½ log E and a constant, so Δ / E
    is twice the information that the layer loses for the logits; S says how much of the logits
    depends on the layer.
    """
    values, order = cost.flatten().sort(descending=True, stable=True)
    energy = values.cumsum(0).clamp_min(torch.finfo(values.dtype).tiny)
    return (
        torch.zeros_like(values).scatter(0, order, values * values.sum() / energy).view(cost.shape)
    )


def choose(
    problem: Problem, cells: Cells, kept: Tensor, gone: Tensor, growth: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    """As many cells as ``kept``, those that carry most (bool, the cells' shape), and the best
    weights (out, k) on them.

    Single weights of a layer of up to ``WHOLE`` inputs are eliminated from all of them, whatever
    ``growth``.
    """
    if cells.shape == tuple(problem.module.weight.shape):
        return of_weights(problem, kept, gone, growth, sweeps)
    ready = layer(problem, cells)
    kept, gone = (x.cpu().view(ready.shape) for x in (kept, gone))

    def solved(cost: Tensor) -> tuple[Tensor, Tensor]:
        chosen = cheapest(cost, ready.weights, kept, gone)
        support = chosen[ready.child][:, ready.parent].to(ready.gram.device)
        return chosen, solve(problem, support)

    count = depth(ready, float(kept.sum(1).double().mean()), growth)
    chosen, weights = solved(costs(ready, count))
    for _ in range(sweeps):
        chosen, weights = solved(sweep(ready, weights, chosen, count))
    return chosen.view(cells.shape), weights


def of_weights(
    problem: Problem, kept: Tensor, gone: Tensor, growth: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    """``choose`` where every weight is a cell."""
    flat, lost = kept.cpu().flatten(1), gone.cpu().flatten(1)
    count, inputs = int(flat.sum()), flat.shape[1]
    grown = min(inputs, max(4, math.ceil(growth * count / len(flat))))
    depth = inputs if inputs <= WHOLE else grown
    support, weights = single.choose(problem, count, depth, sweeps, lost)
    return support.view(kept.shape), weights
