"""Small least-squares problems and their solutions written out in full."""

from __future__ import annotations

import torch
from torch import Tensor

from mint_cli.solver import equations as eq


def noisy_rows() -> tuple[Tensor, Tensor, Tensor]:
    """400 rows of 12 correlated inputs with means, 3 noisy targets, and weights, float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    u = normal(400, 12) @ normal(12, 12) + 2
    t = u @ normal(12, 3) + normal(400, 3)
    return u, t, torch.rand(400, generator=generator, dtype=torch.float64) + 0.1


def problem(
    u: Tensor, t: Tensor, weight: Tensor, ridge: float = 0.0, centred: bool = True
) -> eq.Normal:
    """Normal equations of these rows."""
    moments = eq.empty(u.shape[1], t.shape[1], u.device)
    eq.add(moments, u, t, weight)
    return eq.normal(moments, ridge, centred)


def loss(equations: eq.Normal, output: int, columns: list[int]) -> float:
    """Ridge loss of the best weights on ``columns`` alone, less the variance of the target."""
    gram, cross = equations.gram[columns][:, columns], equations.cross[columns, output]
    return -float(cross @ torch.linalg.solve(gram, cross)) if columns else 0.0
