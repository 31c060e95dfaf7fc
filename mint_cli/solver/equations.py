"""Least squares under masks: streamed moments, and ridge solves on supports, outputs alone or
together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mint_cli.errors import DataError

# least variance of inputs that the ridge counts with, as a share of their mean square: products are
# float32
ROUNDING = 1e-2
# share of kept weights below which a product on a CPU reads the kept columns alone, which is faster
# there
SPARSE = 0.1


@dataclass
class Moments:
    """Weighted sums over rows of inputs u (k) and targets t (o): float64, but every block of rows
    is multiplied in its own precision.
    """

    rows: int
    total: Tensor  # ()
    inputs: Tensor  # (k,)
    targets: Tensor  # (o,)
    gram: Tensor  # (k, k): Σ u uᵀ, on and below the diagonal
    cross: Tensor  # (k, o): Σ u tᵀ
    squares: Tensor  # (o,): Σ t²


@dataclass(frozen=True)
class Normal:
    """Centred and regularised normal equations: ``gram`` @ weightsᵀ = ``cross``; the means give the
    bias.
    """

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
    for columns in torch.arange(len(moments.inputs)).chunk(
        parts(len(moments.inputs))
    ):  # the gram is symmetric
        below = slice(int(columns[0]), None)
        moments.gram[below, columns[0] : columns[-1] + 1] += (
            weighted[:, below].T @ u[:, columns[0] : columns[-1] + 1]
        )
    moments.cross += weighted.T @ t
    moments.squares += (scaled * t).sum(0)


def parts(inputs: int) -> int:
    """In how many column parts the lower half of a gram is multiplied: more leave out more of the
    upper half.
    """
    return 8 if inputs >= 1024 else 4 if inputs >= 256 else 1


def reordered(moments: Moments, order: Tensor) -> Moments:
    """Moments of the same rows with their inputs in another order, int64 (k,)."""
    gram = (moments.gram.tril() + moments.gram.tril(-1).T)[order][:, order]
    own = {"inputs": moments.inputs[order], "gram": gram, "cross": moments.cross[order]}
    return Moments(**(vars(moments) | own))


def normal(moments: Moments, ridge: float, centred: bool) -> Normal:
    """Normal equations per unit of weight, with ``ridge`` times the mean variance of the inputs
    added to every input's variance.

    Where no input varies at all (the layers before have lost everything) the weights come out as 0.
    """
    n = moments.total
    inputs, targets = (
        (moments.inputs / n, moments.targets / n)
        if centred
        else (0 * moments.inputs, 0 * moments.targets)
    )
    gram = (moments.gram.tril() + moments.gram.tril(-1).T) / n - torch.outer(inputs, inputs)
    mean = torch.maximum(gram.diagonal().mean(), ROUNDING * moments.gram.diagonal().mean() / n)
    gram.diagonal().add_(torch.where(mean > 0, ridge * mean, 1.0))
    cross = moments.cross / n - torch.outer(inputs, targets)
    return Normal(gram, cross, inputs, targets, moments.squares / n - targets.square())


def solve(equations: Normal, support: Tensor) -> Tensor:
    """Weights (o, k), exactly 0.0 outside ``support`` (bool, same shape); rows with the same
    support share one factorisation.
    """
    weights = torch.zeros(support.shape, dtype=torch.float64, device=support.device)
    for rows, at in shared(support):
        root = factor(equations.gram[at[:, None], at])
        weights[rows[:, None], at] = torch.cholesky_solve(
            equations.cross[at[:, None], rows], root
        ).T
    return weights


def factor(gram: Tensor) -> Tensor:
    """Lower Cholesky factors of regularised grams (…, k, k).

    Where a ridge below the rounding of the products leaves one indefinite, more is added: from
    their rounding on, ten times as much each time.  Raises DataError for numbers that are not
    finite.
    """
    root, failed = torch.linalg.cholesky_ex(gram)
    if not failed.any():
        return root
    if not gram.isfinite().all():
        raise DataError("a layer's inputs are not finite: the network's weights have overflowed")
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    more = torch.finfo(torch.float32).eps * size * torch.eye(gram.shape[-1]).to(gram)
    while failed.any():
        again, still = torch.linalg.cholesky_ex(gram + more)
        root = torch.where((failed != 0)[..., None, None], again, root)
        failed, more = torch.where(failed != 0, still, failed), more * 10
    return root


def shared(support: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs with the same columns, and these columns, int64 each; outputs without any are left
    out.
    """
    kept, rows_of = torch.unique(support, dim=0, return_inverse=True)
    return [
        ((rows_of == i).nonzero()[:, 0], columns.nonzero()[:, 0])
        for i, columns in enumerate(kept)
        if columns.any()
    ]


def sparse_product(weights: Tensor, gram: Tensor, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``weights`` (o, k), 0 outside ``groups`` (from ``shared``), times ``gram`` (k, k), of which
    only rows of kept columns are read.
    """
    product = torch.zeros_like(weights)
    for rows, at in groups:
        product[rows] = weights[rows[:, None], at] @ gram[at]
    return product


def residual(equations: Normal, weights: Tensor) -> Tensor:
    """Variance of the targets that ``weights`` (o, k) leave unexplained, plus the ridge
    term: (o,).
    """
    explained = 2 * (weights.T * equations.cross).sum(0) - (
        (weights @ equations.gram) * weights
    ).sum(1)
    return equations.variance - explained


def solve_jointly(
    equations: Normal,
    metric: Tensor,
    support: Tensor,
    start: Tensor,
    tolerance: float = 1e-3,
    iterations: int = 30,
) -> Tensor:
    """Weights W (o, k) on ``support`` that minimise tr(metric · (W gram Wᵀ − 2 W cross)): errors of
    one output may answer those of another.

    Conjugate gradients from ``start`` with the diagonal as preconditioner, products in float32,
    until the residual has fallen to ``tolerance`` of its first size.
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
