"""Samples for the kernels' tests, and Prim's algorithm as one would write it down."""

from __future__ import annotations

import numpy as np
import torch

from mint_cli.kernel.distance import grid

ONES = torch.ones(3, dtype=torch.float64)


def whole(rng: np.random.Generator, *shape: int, most: int = 4) -> torch.Tensor:
    """Small whole numbers: full of equal distances and duplicates, and exact in every
    arithmetic.
    """
    return torch.from_numpy(rng.integers(0, most, shape).astype(np.float64))


def plain_prim(distance: np.ndarray) -> np.ndarray:
    """Prim's algorithm as one would write it down, ties to the lowest vertex, then the lowest tree
    end.
    """
    n = len(distance)
    ends, inside = np.zeros(n, int), [0]
    while len(inside) < n:
        edges = [(distance[v, u], v, u) for v in range(n) if v not in inside for u in inside]
        _, v, u = min(edges)
        ends[v] = u
        inside.append(v)
    return ends


def layer(rng: np.random.Generator, n: int, real: bool) -> tuple:
    """Child (2 + 1 + 3 channels), parents (3 + 1 + 2) and another second half for them."""
    make = (
        (lambda *s: torch.from_numpy(rng.normal(size=s)))
        if real
        else (lambda *s: whole(rng, *s, most=3))
    )
    child, (parent, _), starts = (
        make(n, 6),
        grid(make(n, 6)),
        (torch.tensor([0, 2, 3, 6]), torch.tensor([0, 3, 4, 6])),
    )
    swapped = torch.cat(
        [parent[: n // 2], parent[n // 2 :][torch.from_numpy(rng.permutation(n - n // 2))]]
    )
    return child, starts[0], parent, swapped, starts[1]
