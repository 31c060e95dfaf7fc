"""published: the figures measured on the published code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.estimator.published import check, published

DRAWS = 10


def score(rng: np.random.Generator, unpaired: bool, make: Callable) -> float:
    """The score of n = 900 samples of x (1), y (1), z (2), made from standard normal columns."""
    x, y, z = make(*(rng.normal(size=(900, d)) for d in (1, 1, 2)))
    parent = torch.from_numpy(np.c_[y, z])
    result = published(
        torch.from_numpy(x),
        parent,
        torch.tensor([0]),
        torch.tensor([0, 1, 1]),
        rng,
        splits=1,
        unpaired=unpaired,
    )
    return float(result.score[0, 0])


def independent(x, y, z):
    """X, Y, Z independent: information 0."""
    return x, y, z


def independent_given_z(x, y, z):
    """X ⟂ Y | Z: information 0."""
    return z[:, :1] + 0.1 * x, z[:, :1] + 0.1 * y, z


def copy_of_y(x, y, z):
    """X = Y + noise: information large."""
    return y + 0.1 * x, y, z


def sum_of_y_and_z(x, y, z):
    """X = Y + Z + noise: information large."""
    return y + z[:, :1] + 0.1 * x, y, z


@pytest.mark.parametrize(
    "unpaired, case, mean, deviation",
    [
        (False, independent, 0.335, 0.031),
        (False, independent_given_z, 0.648, 0.023),
        (False, copy_of_y, 0.572, 0.032),
        (False, sum_of_y_and_z, 0.517, 0.038),
        (True, copy_of_y, 0.341, 0.029),
    ],
)
def test_the_published_code_is_met_within_three_standard_errors(
    unpaired, case, mean, deviation
) -> None:
    rng = np.random.default_rng(0)
    values = [score(rng, unpaired, case) for _ in range(DRAWS)]
    error = np.hypot(np.std(values, ddof=1), deviation) / np.sqrt(DRAWS)
    assert abs(np.mean(values) - mean) < 3 * error


def test_unpaired_rows_hide_every_dependence() -> None:
    rng = np.random.default_rng(1)
    dependent, none = (
        [score(rng, True, case) for _ in range(DRAWS)] for case in (copy_of_y, independent)
    )
    assert abs(np.mean(dependent) - np.mean(none)) < 3 * np.hypot(
        np.std(dependent), np.std(none)
    ) / np.sqrt(DRAWS)


def test_splits_below_one_are_refused() -> None:
    with pytest.raises(SettingError, match="splits must be at least 1, not 0"):
        check(100, splits=0, unpaired=True)
