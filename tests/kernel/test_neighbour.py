"""Neighbour counts against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import digamma

from mint_cli.kernel import neighbour


def gaps(values: np.ndarray) -> np.ndarray:
    """Largest gap between samples over columns, (n, n)."""
    return np.abs(values[:, None] - values[None]).max(-1, initial=0)


def plain_information(x: np.ndarray, y: np.ndarray, z: np.ndarray, k: int) -> float:
    """Frenzel–Pompe with Mesner and Shalizi's count of duplicates, sample by sample."""
    n, terms = len(x), []
    dx, dy, dz = gaps(x), gaps(y), gaps(z)
    joint, xz, yz = np.maximum(np.maximum(dx, dy), dz), np.maximum(dx, dz), np.maximum(dy, dz)
    for i in range(n):
        others = np.arange(n) != i
        reach = np.sort(joint[i, others])[k - 1]
        if reach > 0:
            counts = [(d[i, others] < reach).sum() + 1 for d in (xz, yz, dz)]
            terms.append(digamma(k) - digamma(counts[0]) - digamma(counts[1]) + digamma(counts[2]))
        else:
            counts = [(d[i, others] == 0).sum() for d in (joint, xz, yz, dz)]
            terms.append(
                digamma(counts[0]) - digamma(counts[1]) - digamma(counts[2]) + digamma(counts[3])
            )
    return float(np.mean(terms))


@pytest.mark.parametrize("most", [None, 3])
def test_information_equals_the_formula_sample_by_sample_also_with_duplicates(
    most: int | None,
) -> None:
    rng = np.random.default_rng(0)
    make = (
        (lambda *s: rng.integers(0, most, s).astype(np.float32))
        if most
        else (lambda *s: rng.normal(size=s).astype(np.float32))
    )
    x, p = make(90, 3), make(90, 4)
    groups = ([0, 1, 3], [0, 2, 3, 4])
    found = neighbour.information(
        torch.from_numpy(x),
        torch.tensor(groups[0]),
        torch.from_numpy(p),
        torch.tensor(groups[1]),
        4,
    )
    for c, child in enumerate((x[:, :1], x[:, 1:])):
        for g, own in enumerate(([0, 1], [2], [3])):
            rest = [column for column in range(4) if column not in own]
            assert float(found[c, g]) == pytest.approx(
                plain_information(child, p[:, own], p[:, rest], 4), abs=1e-12
            )


def test_a_parent_group_that_stands_alone_is_compared_without_condition() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 1)).astype(np.float32), rng.normal(size=(80, 2)).astype(np.float32)
    found = neighbour.information(
        torch.from_numpy(x), torch.tensor([0, 1]), torch.from_numpy(y), torch.tensor([0, 2]), 3
    )
    assert float(found) == pytest.approx(
        plain_information(x, y, np.zeros((80, 0), np.float32), 3), abs=1e-12
    )
