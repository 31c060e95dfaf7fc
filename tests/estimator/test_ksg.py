"""ksg: closed forms of Gaussian pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.estimator.ksg import check, ksg


def scores(correlation: float, conditional: bool, n: int = 1000, draws: int = 6) -> list[float]:
    """Estimates of a Gaussian pair, the child hidden behind Z where ``conditional``."""
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        x, noise, z = rng.normal(size=(3, n, 1))
        y = correlation * x + np.sqrt(1 - correlation**2) * noise
        parent, groups = (np.c_[y, z], [0, 1]) if conditional else (y, [0])
        child = x + z if conditional else x
        sides = (
            torch.from_numpy(child),
            torch.from_numpy(parent),
            torch.tensor([0]),
            torch.tensor(groups),
        )
        found.append(float(ksg(*sides, rng, neighbours=5).score[0, 0]))
    return found


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("conditional", [False, True])
def test_gaussian_pairs_give_the_closed_form(correlation: float, conditional: bool) -> None:
    found = scores(correlation, conditional)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    bias = (
        0.03 if conditional else 0.01
    )  # towards 0, known of the method; smaller with more samples
    assert abs(np.mean(found) + 0.5 * np.log(1 - correlation**2)) < 3 * error + bias


def test_information_rises_with_correlation() -> None:
    means = [np.mean(scores(correlation, True, 400, 3)) for correlation in (0.0, 0.5, 0.8, 0.95)]
    assert means == sorted(means)


def test_neighbours_below_one_are_refused() -> None:
    with pytest.raises(SettingError, match="neighbours must be at least 1, not 0"):
        check(100, neighbours=0)
