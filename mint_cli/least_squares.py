"""Least squares under masks: streamed moments, ridge solves on supports, and elimination of blocks by the information they carry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-2  # least variance of inputs that the ridge counts with, as a share of their mean square: products are float32
SPARSE = 0.1  # share of kept weights below which a product on a CPU reads the kept columns alone, which is faster there


@dataclass
class Moments:
    """Weighted sums over rows of inputs u (k) and targets t (o): float64, but every block of rows is multiplied in its own precision."""

    rows: int
    total: Tensor  # ()
    inputs: Tensor  # (k,)
    targets: Tensor  # (o,)
    gram: Tensor  # (k, k): Σ u uᵀ, on and below the diagonal
    cross: Tensor  # (k, o): Σ u tᵀ
    squares: Tensor  # (o,): Σ t²


@dataclass(frozen=True)
class Normal:
    """Centred and regularised normal equations: ``gram`` @ weightsᵀ = ``cross``; the means give the bias."""

    gram: Tensor  # (k, k)
    cross: Tensor  # (k, o)
    inputs: Tensor  # (k,)
    targets: Tensor  # (o,)
    variance: Tensor  # (o,): of the targets


def empty(k: int, o: int, device: torch.device) -> Moments:
    """Moments of no rows."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=device)

    return Moments(0, zeros(), zeros(k), zeros(o), zeros(k, k), zeros(k, o), zeros(o))


def add(moments: Moments, u: Tensor, t: Tensor, weight: Tensor) -> None:
    """Add rows ``u`` (n, k) with targets ``t`` (n, o) and weights (n,) in place."""
    weighted, scaled = u * weight[:, None], t * weight[:, None]
    moments.rows += len(u)
    moments.total += weight.sum()
    moments.inputs += weighted.sum(0)
    moments.targets += scaled.sum(0)
    for columns in torch.arange(len(moments.inputs)).chunk(8 if len(moments.inputs) >= 1024 else 1):  # the gram is symmetric
        below = slice(int(columns[0]), None)
        moments.gram[below, columns[0] : columns[-1] + 1] += weighted[:, below].T @ u[:, columns[0] : columns[-1] + 1]
    moments.cross += weighted.T @ t
    moments.squares += (scaled * t).sum(0)


def normal(moments: Moments, ridge: float, centred: bool) -> Normal:
    """Normal equations per unit of weight, with ``ridge`` times the mean variance of the inputs added to every input's variance.

    Where no input varies at all (the layers before have lost everything) the weights come out as 0.
    """
    n = moments.total
    inputs, targets = (moments.inputs / n, moments.targets / n) if centred else (0 * moments.inputs, 0 * moments.targets)
    gram = (moments.gram.tril() + moments.gram.tril(-1).T) / n - torch.outer(inputs, inputs)
    mean = torch.maximum(gram.diagonal().mean(), ROUNDING * moments.gram.diagonal().mean() / n)
    gram.diagonal().add_(torch.where(mean > 0, ridge * mean, 1.0))
    cross = moments.cross / n - torch.outer(inputs, targets)
    return Normal(gram, cross, inputs, targets, moments.squares / n - targets.square())


def solve(equations: Normal, support: Tensor) -> Tensor:
    """Weights (o, k), exactly 0.0 outside ``support`` (bool, same shape); rows with the same support share one factorisation."""
    weights = torch.zeros(support.shape, dtype=torch.float64, device=support.device)
    for rows, at in shared(support):
        factor = torch.linalg.cholesky(equations.gram[at[:, None], at])
        weights[rows[:, None], at] = torch.cholesky_solve(equations.cross[at[:, None], rows], factor).T
    return weights


def shared(support: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs with the same columns, and these columns, int64 each; outputs without any are left out."""
    kept, rows_of = torch.unique(support, dim=0, return_inverse=True)
    return [((rows_of == i).nonzero()[:, 0], columns.nonzero()[:, 0]) for i, columns in enumerate(kept) if columns.any()]


def sparse_product(weights: Tensor, gram: Tensor, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``weights`` (o, k), 0 outside ``groups`` (from ``shared``), times ``gram`` (k, k), of which only rows of kept columns are read."""
    product = torch.zeros_like(weights)
    for rows, at in groups:
        product[rows] = weights[rows[:, None], at] @ gram[at]
    return product


def residual(equations: Normal, weights: Tensor) -> Tensor:
    """Variance of the targets that ``weights`` (o, k) leave unexplained, plus the ridge term: (o,)."""
    explained = 2 * (weights.T * equations.cross).sum(0) - ((weights @ equations.gram) * weights).sum(1)
    return equations.variance - explained


def blocks(groups: Tensor, kernel: int) -> Tensor:
    """Columns of every parent group, int64 (groups, size): channel c owns columns c·kernel … c·kernel + kernel − 1; −1 fills up."""
    owner = groups.repeat_interleave(kernel)
    columns = [(owner == g).nonzero()[:, 0] for g in range(int(groups.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=-1)


def padded(equations: Normal, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Gram (g · s, g · s) and cross (g · s, o) in the order of ``columns`` (g, s), float32; −1 is an idle input that explains nothing."""
    order, idle = columns.flatten().clamp_min(0), columns.flatten() < 0
    gram = equations.gram[order][:, order].masked_fill(idle[:, None] | idle[None, :], 0.0)
    gram.diagonal().masked_fill_(idle, float(equations.gram.diagonal().mean()))
    return gram.float(), equations.cross[order].masked_fill(idle[:, None], 0.0).float()


def solve_jointly(
    equations: Normal, metric: Tensor, support: Tensor, start: Tensor, tolerance: float = 1e-3, iterations: int = 30
) -> Tensor:
    """Weights W (o, k) on ``support`` that minimise tr(metric · (W gram Wᵀ − 2 W cross)): errors of one output may answer those of another.

    Conjugate gradients from ``start`` with the diagonal as preconditioner, products in float32, until the residual has fallen
    to ``tolerance`` of its first size.
    """
    metric, gram, cross = metric.float(), equations.gram.float(), equations.cross.float()
    weights, kept = start.float(), support.float()
    few = shared(support) if gram.device.type == "cpu" and kept.mean() < SPARSE else None

    def through(weights: Tensor) -> Tensor:
        return weights @ gram if few is None else sparse_product(weights, gram, few)

    scale = kept / (metric.diagonal()[:, None] * gram.diagonal()[None, :])
    left = kept * (metric @ (cross.T - through(weights)))
    towards = scale * left
    size = first = (left * towards).sum()
    for _ in range(iterations):
        if not size > tolerance**2 * first:
            break
        change = kept * (metric @ through(towards))
        step = size / (towards * change).sum()
        weights, left = weights + step * towards, left - step * change
        before, size = size, (left * scale * left).sum()
        towards = scale * left + (size / before) * towards
    return weights.double()


def grow(gram: Tensor, cross: Tensor, size: int, count: int) -> Tensor:
    """Add block after block, always the one that explains most given those there already: order of the first ``count``, int64.

    ``gram`` (k, k) regularised, ``cross`` (k, m) of m rows that share a support; blocks are ``size`` columns each.
    """
    k, n = len(gram), len(gram) // size
    own = gram.view(n, size, n, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()  # blocks, less what is explained
    cross, eye = cross.clone(), torch.eye(size, dtype=gram.dtype, device=gram.device)
    factors = torch.empty(count * size, k, dtype=gram.dtype, device=gram.device)
    taken = torch.zeros(n, dtype=torch.bool, device=gram.device)
    order = torch.empty(count, dtype=torch.int64, device=gram.device)
    for step in range(count):
        root = torch.linalg.cholesky_ex(torch.where(taken[:, None, None], eye, own))[0]
        parts = torch.linalg.solve_triangular(root, cross.view(n, size, -1), upper=False)
        best = order[step] = parts.square().sum((1, 2)).masked_fill(taken, -1.0).argmax()
        done, here = factors[: step * size], torch.arange(size, device=gram.device) + best * size
        rows = gram[here] - done[:, here].T @ done
        rows = torch.linalg.solve_triangular(root[best], rows, upper=False)
        factors[step * size : (step + 1) * size] = rows
        cross -= rows.T @ parts[best]
        shared = rows.view(size, n, size).transpose(0, 1)
        own -= shared.transpose(1, 2) @ shared
        taken[best] = True
    return order


def eliminate(inverse: Tensor, weights: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Remove block after block, always the one whose loss costs least given those still kept, until none is left.

    ``inverse`` (k, k) of the regularised gram, ``weights`` (m, k) the full solutions of m rows that share a support; blocks are
    ``size`` columns each.  Returns the order, int64 (k / size,), and the rise Σ_m Δ at every step: Δ = w_gᵀ (inverse_gg)⁻¹ w_g is
    exactly the rise of a row's least-squares loss (block form of optimal brain surgeon, Hassibi & Stork 1993); the rest is
    re-solved at once by a downdate of the inverse.
    """
    inverse, weights = inverse.clone(), weights.clone()
    names = torch.arange(len(inverse) // size, device=weights.device)
    gone = torch.zeros_like(names, dtype=torch.bool)
    eye = torch.eye(size, dtype=inverse.dtype, device=inverse.device)
    order, rises = torch.empty_like(names), torch.empty(len(names), dtype=weights.dtype, device=weights.device)
    lost = 0
    for step in range(len(order)):
        n = len(names)
        own = inverse.view(n, size, n, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        inner = torch.linalg.inv(torch.where(gone[:, None, None], eye, own))  # (n, size, size)
        parts = weights.view(-1, n, size).transpose(0, 1)  # (n, m, size)
        rise = ((parts @ inner) * parts).sum((1, 2)).masked_fill(gone, torch.inf)
        at = rise.argmin()
        order[step], rises[step] = names[at], rise[at]
        columns = inverse.view(-1, n, size)[:, at].clone()  # (k, size)
        share = columns @ inner[at]
        weights = torch.addmm(weights, parts[at], share.T, alpha=-1)
        inverse.addmm_(share, columns.T, alpha=-1)
        gone[at] = True
        weights.view(-1, n, size).masked_fill_(gone[None, :, None], 0.0)
        lost += 1
        if lost * 8 >= n > 1:  # shrink
            kept, lost = (~gone).nonzero()[:, 0], 0
            at = spans(kept, size)
            names, gone = names[kept], torch.zeros_like(kept, dtype=torch.bool)
            inverse, weights = inverse[at][:, at], weights[:, at].contiguous()
    return order, rises


def spans(names: Tensor, size: int) -> Tensor:
    """Columns of the blocks of those names, int64 (names · size,)."""
    return (names[:, None] * size + torch.arange(size, device=names.device)).flatten()


def ranked(gram: Tensor, cross: Tensor, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Grow to ``count`` blocks, then eliminate them: their order, first gone first, and the rise at every step, never falling."""
    names = grow(gram, cross, size, count) if count * size < len(gram) else torch.arange(count, device=gram.device)
    at = spans(names, size)
    factor = torch.linalg.cholesky(gram[at][:, at].double())
    weights = torch.cholesky_solve(cross[at].double(), factor).T
    order, rises = eliminate(torch.cholesky_inverse(factor).float(), weights.float(), size)
    return names[order], rises.clamp_min(0.0).cummax(0).values
