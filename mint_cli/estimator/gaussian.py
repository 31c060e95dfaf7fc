"""Conditional information of jointly Gaussian blocks, from one factorisation of the parents'
covariance per layer.

With precision Λ = (Σ_pp + ridge)⁻¹ and coefficients B = Σ_xp Λ, leaving parent group g out adds
Δ = B_g (Λ_gg)⁻¹ B_gᵀ to the child's residual covariance R, so that the conditional information is ½
log det(I + R⁻¹ Δ) nats.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.linalg import cholesky, solve_triangular

from mint_cli.errors import SettingError
from mint_cli.kernel.sample import Side, check_rows, from_samples, sides, silence_dead, standardised
from mint_cli.protocol import Estimate, checked_by

LEAST_ROWS = 4  # two in each half
LEAST_RIDGE = 1e-5  # well above the rounding of float32 products
ROWS_PER_PRODUCT = 1024
FORMS = ("information", "variance")


def check(rows: int, /, *, ridge: float, form: str) -> None:
    """Raise SettingError for a setting outside its bounds, or fewer rows than the estimator
    needs.
    """
    if not ridge >= LEAST_RIDGE:
        raise SettingError("ridge", f"must be at least {LEAST_RIDGE}", ridge)
    if form not in FORMS:
        raise SettingError("form", f"must be one of {', '.join(FORMS)}", form)
    check_rows(rows, LEAST_ROWS)


@checked_by(check)
def gaussian(
    child: Tensor,
    parent: Tensor,
    child_groups: Tensor,
    parent_groups: Tensor,
    rng: np.random.Generator,
    /,
    *,
    ridge: float,
    form: str,
) -> Estimate:
    """Score every pair of child and parent group given all other parents; fewer rows than parents
    are enough.

    ``form`` information: nats, blind to the children's scale.  ``form`` variance: the variance of
    the child group that this parent group alone explains, in squared units of the child's channels.
    ``ridge`` is added to the covariance's diagonal, relative to its mean, after standardising.
    """
    check(len(child), ridge=ridge, form=form)
    x, p = sides(child, parent, child_groups, parent_groups)
    score = {"information": _information, "variance": _variance}[form]
    return from_samples(partial(score, ridge=ridge), x, p, rng)


def _information(x: Side, p: Side, ridge: float) -> Tensor:
    """Conditional information, nats, float64 (child groups, parent groups)."""
    scaled = standardised(x)
    explained, coefficients, cross = _explained(scaled, p, ridge)
    index, filled = _padded(x)
    own = scaled.values.T[index]
    covariance = own @ own.mT / own.shape[-1] + torch.diag_embed(
        ridge * _mean_diagonal(x) * filled.double()
    )
    residual = covariance - coefficients[index] @ cross[index].mT
    # Room that a smaller group does not fill becomes an independent unit variance, which adds
    # nothing to a determinant.
    residual = torch.where(filled[:, :, None] & filled[:, None, :], residual, 0) + torch.diag_embed(
        (~filled).double()
    )
    root = cholesky(residual)
    blocks = (torch.where(filled[:, :, None], part[index], 0) for part in explained)
    return silence_dead(
        torch.stack(
            [_half_log_det(solve_triangular(root, block, upper=False)) for block in blocks], 1
        ),
        x,
        p,
    )


def _variance(x: Side, p: Side, ridge: float) -> Tensor:
    """Variance explained by each parent group alone, summed over the child group's channels."""
    centred = Side(x.values - x.values.mean(0), x.starts, x.live)
    per_channel = torch.stack(
        [part.square().sum(1) for part in _explained(centred, p, ridge)[0]], 1
    )
    return silence_dead(torch.stack([per_channel[own].sum(0) for own in x.slices()]), x, p)


def _explained(x: Side, p: Side, ridge: float) -> tuple[list[Tensor], Tensor, Tensor]:
    """Per parent group a root of Δ (child channels, group's channels); B; and Σ_xp (both child ×
    parent channels).
    """
    scaled = standardised(p).values
    covariance = _product(scaled, scaled)
    covariance.diagonal().add_(ridge * _mean_diagonal(p))
    precision = torch.cholesky_inverse(cholesky(covariance))
    cross = _product(x.values, scaled)
    coefficients = cross @ precision
    roots = (cholesky(precision[own, own]) for own in p.slices())
    explained = [
        solve_triangular(root, coefficients[:, own].T, upper=False).T
        for own, root in zip(p.slices(), roots, strict=True)
    ]
    return explained, coefficients, cross


def _mean_diagonal(it: Side) -> float:
    """Mean variance of standardised channels: the share that is not constant (1 where all are)."""
    return float(it.live.double().mean()) or 1.0


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Mean of products over rows, float64: float32 products of few rows, because they are several
    times faster.
    """
    total = left.new_zeros(left.shape[1], right.shape[1])
    for rows, others in zip(
        left.split(ROWS_PER_PRODUCT), right.split(ROWS_PER_PRODUCT), strict=True
    ):
        total += rows.float().T @ others.float()
    return total / len(left)


def _padded(x: Side) -> tuple[Tensor, Tensor]:
    """Channel numbers of every group as a rectangle (groups, most channels), and which of them are
    real.
    """
    offset = torch.arange(int(x.starts.diff().max()))
    filled = offset < x.starts.diff()[:, None]
    return torch.where(filled, x.starts[:-1, None] + offset, x.starts[:-1, None]), filled


def _half_log_det(root: Tensor) -> Tensor:
    """½ log det(I + A Aᵀ) of every A (groups, rows, columns), by the smaller of its two Gram
    matrices.
    """
    gram = root @ root.mT if root.shape[1] <= root.shape[2] else root.mT @ root
    gram.diagonal(dim1=1, dim2=2).add_(1)
    return cholesky(gram).diagonal(dim1=1, dim2=2).log().sum(1)
