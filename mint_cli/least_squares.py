"""Least squares under masks: streamed moments, ridge solves on supports, and elimination of blocks by the information they carry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Weighted sums over rows of inputs u (k) and targets t (o): float64, but every block of rows is multiplied in its own precision."""

    rows: int
    total: Tensor  # ()
    inputs: Tensor  # (k,)
    targets: Tensor  # (o,)
    gram: Tensor  # (k, k): Σ u uᵀ
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
    moments.gram += weighted.T @ u
    moments.cross += weighted.T @ t
    moments.squares += (scaled * t).sum(0)


def normal(moments: Moments, ridge: float, centred: bool) -> Normal:
    """Normal equations per unit of weight, with ``ridge`` times the mean variance of the inputs added to every input's variance."""
    n = moments.total
    inputs, targets = (moments.inputs / n, moments.targets / n) if centred else (0 * moments.inputs, 0 * moments.targets)
    gram = moments.gram / n - torch.outer(inputs, inputs)
    gram = (gram + gram.T) / 2
    gram.diagonal().add_(ridge * gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny))
    cross = moments.cross / n - torch.outer(inputs, targets)
    return Normal(gram, cross, inputs, targets, moments.squares / n - targets.square())


def solve(equations: Normal, support: Tensor) -> Tensor:
    """Weights (o, k), exactly 0.0 outside ``support`` (bool, same shape); rows with the same support share one factorisation."""
    weights = torch.zeros(support.shape, dtype=torch.float64, device=support.device)
    kept, rows_of = torch.unique(support, dim=0, return_inverse=True)
    for i, columns in enumerate(kept):
        rows, at = (rows_of == i).nonzero()[:, 0], columns.nonzero()[:, 0]
        if len(at):
            factor = torch.linalg.cholesky(equations.gram[at][:, at])
            weights[rows[:, None], at] = torch.cholesky_solve(equations.cross[at][:, rows], factor).T
    return weights


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
    """Inverse of the gram (g · s, g · s) and solutions (o, g · s) in the order of ``columns`` (g, s), float32; −1 is an idle input."""
    order, idle = columns.flatten().clamp_min(0), columns.flatten() < 0
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(equations.gram))
    weights = (inverse @ equations.cross).T[:, order].masked_fill(idle, 0.0)
    inverse = inverse[order][:, order].masked_fill(idle[:, None] | idle[None, :], 0.0)
    inverse.diagonal().masked_fill_(idle, 1.0)
    return inverse.float(), weights.float()


def eliminate(inverse: Tensor, weights: Tensor, importance: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Remove block after block, always the one whose loss costs least given those still kept, until none is left.

    ``inverse`` (k, k) of the regularised gram; ``weights`` (b, m, k), the full solutions of m rows that share a support, for b
    such child groups; ``importance`` (b, m); blocks are ``size`` columns each.  Returns the order, int64 (b, k / size), and each
    row's rise Δ at every step, (b, k / size, m): Δ = w_gᵀ (inverse_gg)⁻¹ w_g is exactly the rise of its least-squares loss, and
    the block with the least Σ_m importance · Δ goes (block form of optimal brain surgeon, Hassibi & Stork 1993; the rest is
    re-solved at once by a downdate of the inverse).
    """
    b, m, k = weights.shape
    inverse, weights, index = inverse.expand(b, k, k).clone(), weights.clone(), torch.arange(b, device=weights.device)
    names = torch.arange(k // size, device=weights.device).repeat(b, 1)
    gone = torch.zeros_like(names, dtype=torch.bool)
    order, rises = [], []
    for _ in range(k // size):
        n = names.shape[1]
        inner = torch.linalg.inv(diagonal_blocks(inverse, gone, size))  # (b, n, size, size)
        parts = weights.view(b, m, n, size).transpose(1, 2)  # (b, n, m, size)
        rise = ((parts @ inner) * parts).sum(3)  # (b, n, m)
        at = (rise * importance[:, None]).sum(2).masked_fill(gone, torch.inf).argmin(1)
        order.append(names[index, at])
        rises.append(rise[index, at])
        columns = inverse.view(b, k, n, size)[index, :, at]  # (b, k, size)
        share = columns @ inner[index, at]
        weights = weights.baddbmm(parts[index, at], share.transpose(1, 2), alpha=-1)
        inverse.baddbmm_(share, columns.transpose(1, 2), alpha=-1)
        gone[index, at] = True
        weights.view(b, m, n, size).masked_fill_(gone[:, None, :, None], 0.0)
        if int(gone[0].sum()) * 8 >= n > 1:  # every child group has lost equally many: shrink
            names, inverse, weights, gone = shrunk(names, inverse, weights, gone, size)
            k = weights.shape[2]
    return torch.stack(order, 1), torch.stack(rises, 1)


def diagonal_blocks(inverse: Tensor, gone: Tensor, size: int) -> Tensor:
    """Diagonal blocks (b, n, size, size) of ``inverse`` (b, n · size, n · size), the identity where a block is gone."""
    b, n = gone.shape
    found = inverse.view(b, n, size, n, size).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    return torch.where(gone[:, :, None, None], torch.eye(size, dtype=inverse.dtype, device=inverse.device), found)


def shrunk(names: Tensor, inverse: Tensor, weights: Tensor, gone: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same without the blocks that are gone, as many in every child group."""
    b, m, _ = weights.shape
    kept = (~gone).nonzero()[:, 1].view(b, -1)
    columns = (kept[:, :, None] * size + torch.arange(size, device=kept.device)).flatten(1)
    n = columns.shape[1]
    inverse = inverse.gather(1, columns[:, :, None].expand(b, n, inverse.shape[2])).gather(2, columns[:, None, :].expand(b, n, n))
    weights = weights.gather(2, columns[:, None, :].expand(b, m, n))
    return names.gather(1, kept), inverse, weights, torch.zeros_like(kept, dtype=torch.bool)
