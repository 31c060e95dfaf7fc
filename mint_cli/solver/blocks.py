"""Orders of the blocks of a least-squares problem: grown by what they explain, eliminated by what
they cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.solver.equations import Normal, factor


def columns_of(owner: Tensor) -> Tensor:
    """Columns of every block, int64 (blocks, size), from the block that owns each column (k,); −1
    fills up.
    """
    columns = [(owner == g).nonzero()[:, 0] for g in range(int(owner.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=-1)


def padded(equations: Normal, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Gram (g · s, g · s) and cross (g · s, o) in the order of ``columns`` (g, s), float32; −1 is
    an idle input that explains nothing.
    """
    order, idle = columns.flatten().clamp_min(0), columns.flatten() < 0
    gram = equations.gram[order][:, order].masked_fill(idle[:, None] | idle[None, :], 0.0)
    gram.diagonal().masked_fill_(idle, float(equations.gram.diagonal().mean()))
    return gram.float(), equations.cross[order].masked_fill(idle[:, None], 0.0).float()


def grow(gram: Tensor, cross: Tensor, size: int, count: int) -> tuple[Tensor, Tensor]:
    """Add block after block, always the one that explains most given those there already.

    ``gram`` (k, k) regularised, ``cross`` (k, m) of m rows that share a support; blocks are
    ``size`` columns each.  Returns the order of the first ``count``, int64, and what each of the
    others would explain next (k / size,), 0 for those that are in.
    """
    k, n = len(gram), len(gram) // size
    own = (
        gram.view(n, size, n, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()
    )  # blocks, less what is explained
    cross, eye = cross.clone(), torch.eye(size, dtype=gram.dtype, device=gram.device)
    factors = torch.empty(count * size, k, dtype=gram.dtype, device=gram.device)
    taken = torch.zeros(n, dtype=torch.bool, device=gram.device)
    order = torch.empty(count, dtype=torch.int64, device=gram.device)
    for step in range(count + 1):
        root = torch.linalg.cholesky_ex(torch.where(taken[:, None, None], eye, own))[0]
        parts = torch.linalg.solve_triangular(root, cross.view(n, size, -1), upper=False)
        gains = parts.square().sum((1, 2)).masked_fill(taken, -1.0)
        if step == count:
            break
        best = order[step] = gains.argmax()
        done, here = factors[: step * size], torch.arange(size, device=gram.device) + best * size
        rows = gram[here] - done[:, here].T @ done
        rows = torch.linalg.solve_triangular(root[best], rows, upper=False)
        factors[step * size : (step + 1) * size] = rows
        cross -= rows.T @ parts[best]
        shared = rows.view(size, n, size).transpose(0, 1)
        own -= shared.transpose(1, 2) @ shared
        taken[best] = True
    return order, gains.clamp_min(0.0)


def eliminate(inverse: Tensor, weights: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Remove block after block, always the one whose loss costs least given those still kept, until
    none is left.

    ``inverse`` (k, k) of the regularised gram, ``weights`` (m, k) the full solutions of m rows that
    share a support; blocks are ``size`` columns each.  Returns the order, int64 (k / size,), and
    the rise Σ_m Δ at every step: Δ = w_gᵀ (inverse_gg)⁻¹ w_g is exactly the rise of a row's
    least-squares loss (block form of optimal brain surgeon, Hassibi & Stork 1993); the rest is
    re-solved at once by a downdate of the inverse.
    """
    inverse, weights = inverse.clone(), weights.clone()
    names = torch.arange(len(inverse) // size, device=weights.device)
    gone = torch.zeros_like(names, dtype=torch.bool)
    eye = torch.eye(size, dtype=inverse.dtype, device=inverse.device)
    order, rises = (
        torch.empty_like(names),
        torch.empty(len(names), dtype=weights.dtype, device=weights.device),
    )
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


def ranked(gram: Tensor, cross: Tensor, size: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grow to ``count`` blocks, then eliminate them: their order, first gone first, the rise at
    every step, never falling, and gains.

    Gains (k / size,) are what every block that was not grown to would still explain beside those
    that were, 0 for these.
    """
    blocks = len(gram) // size
    if count < blocks:
        names, gains = grow(gram, cross, size, count)
    else:
        names, gains = (
            torch.arange(blocks, device=gram.device),
            torch.zeros(blocks, device=gram.device),
        )
    at = spans(names, size)
    root = factor(gram[at][:, at].double())
    weights = torch.cholesky_solve(cross[at].double(), root).T
    order, rises = eliminate(torch.cholesky_inverse(root).float(), weights.float(), size)
    return names[order], rises.clamp_min(0.0).cummax(0).values, gains
