"""gmi: the integral it estimates, zero, invariances, one pair alone as in bulk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.estimator.gmi import SCALES, check, conditional_gmi, gmi


def henze_penrose(correlation: float) -> float:
    """1 − 2 ∫ f g / (f + g) for a Gaussian pair of this correlation and its independent twin, on a
    fine grid.
    """
    step = 0.02
    t = np.arange(-8, 8 + step / 2, step)
    x, y = np.meshgrid(t, t)
    rest = 1 - correlation**2
    independent = np.exp(-(x**2 + y**2) / 2) / (2 * np.pi)
    joint = np.exp(-(x**2 - 2 * correlation * x * y + y**2) / (2 * rest)) / (
        2 * np.pi * np.sqrt(rest)
    )
    return float(1 - 2 * (joint * independent / (joint + independent + 1e-300)).sum() * step**2)


def pair(rng: np.random.Generator, n: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian pair, two columns of n."""
    x, noise = rng.normal(size=(2, n, 1))
    return x, correlation * x + np.sqrt(1 - correlation**2) * noise


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 0.95])
def test_gaussian_pairs_give_the_integral_within_three_standard_errors_on_any_scale(
    correlation: float, scale: str
) -> None:
    rng = np.random.default_rng(0)
    values = [
        conditional_gmi(*pair(rng, 2400, correlation), None, rng, splits=2, scale=scale)
        for _ in range(8)
    ]
    mean, error = mean_and_error(values)
    assert abs(mean - henze_penrose(correlation)) < 3 * error


@pytest.mark.parametrize("noise", [None, 0.5])
def test_conditionally_independent_groups_average_zero(noise: float | None) -> None:
    rng, values = np.random.default_rng(1), []
    for _ in range(20):
        x, y, z = rng.normal(size=(3, 1500, 2))
        x, y = (x, y) if noise is None else (z + noise * x, z + noise * y)
        values.append(conditional_gmi(x, y, z, rng, splits=2, scale="none"))
    mean, error = mean_and_error(values)
    assert abs(mean) < 3 * error + (
        0 if noise is None else 0.02
    )  # near neighbours are not equal: a trace of Z stays


def test_dependence_given_the_condition_is_found_where_the_condition_hides_it() -> None:
    rng, values = np.random.default_rng(2), []
    for _ in range(8):
        (x, y), z = pair(rng, 2400, 0.8), rng.normal(size=(2400, 1))
        values.append(conditional_gmi(x + z, y, z, rng, splits=2, scale="standard"))
    assert (
        abs(np.mean(values) - henze_penrose(0.8)) < 0.04
    )  # bias in three dimensions, measured −.02


def test_the_estimate_rises_with_correlation() -> None:
    rng = np.random.default_rng(3)
    means = []
    for correlation in (0.0, 0.4, 0.7, 0.9, 0.99):
        values = [
            conditional_gmi(
                *pair(rng, 900, correlation), rng.normal(size=(900, 1)), rng, splits=2, scale="none"
            )
            for _ in range(4)
        ]
        means.append(np.mean(values))
    assert means == sorted(means)


def triple(n: int = 300) -> list[np.ndarray]:
    """x, y, z with two columns each, dependent."""
    x, y, z = np.random.default_rng(4).normal(size=(3, n, 2))
    return [x + y, y, z]


def alone(x, y, z, scale: str = "none") -> float:
    """A pair alone with a stream of its own."""
    return conditional_gmi(x, y, z, np.random.default_rng(0), splits=2, scale=scale)


@pytest.mark.parametrize("scale", SCALES)
def test_shift_common_scale_and_order_of_columns_change_nothing(scale: str) -> None:
    x, y, z = triple()
    expected = alone(x, y, z, scale)
    assert alone(x + 1, y - 2, z + 4, scale) == expected
    assert alone(8 * x, 8 * y, 8 * z, scale) == expected
    assert alone(x[:, ::-1].copy(), y[:, ::-1].copy(), z[:, ::-1].copy(), scale) == expected


def test_rotations_inside_a_block_change_nothing() -> None:
    x, y, z = triple()
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(2, 2)))[0]
    assert alone(x @ turn, y @ turn, z @ turn) == alone(x, y, z)


def test_standardising_makes_the_estimate_blind_to_the_unit_of_a_channel() -> None:
    x, y, z = triple()
    units = np.array([1.0, 1024.0])
    for scale in ("standard", "block"):
        assert alone(x * units, y / units, z * units, scale) == alone(x, y, z, scale)
    assert alone(x * units, y / units, z * units) != alone(x, y, z)


def test_the_order_of_samples_does_not_matter_on_average() -> None:
    x, y, z = triple(600)
    order = np.argsort(x[:, 0])
    given, sorted_ = (
        [
            conditional_gmi(*rows, np.random.default_rng(seed), splits=2, scale="none")
            for seed in range(16)
        ]
        for rows in ((x, y, z), (x[order], y[order], z[order]))
    )
    (mean, error), (other, other_error) = mean_and_error(given), mean_and_error(sorted_)
    assert abs(mean - other) < 3 * np.hypot(error, other_error)


@pytest.mark.parametrize("scale", SCALES)
def test_one_pair_alone_scores_exactly_as_in_bulk(scale: str) -> None:
    rng = np.random.default_rng(6)
    parent, groups = (
        torch.from_numpy(rng.normal(size=(150, 7))).float().relu(),
        torch.tensor([0, 1, 1, 2, 0, 2, 2]),
    )
    child, child_groups = (
        torch.from_numpy(rng.normal(size=(150, 6))).float() + parent[:, :6],
        torch.tensor([0, 0, 1, 2, 1, 1]),
    )
    child[:30], parent[:30] = child[30:60], parent[30:60]  # duplicates
    bulk = gmi(
        child, parent, child_groups, groups, np.random.default_rng(0), splits=2, scale=scale
    ).score
    for c in range(3):
        for g in range(3):
            triple = child[:, child_groups == c], parent[:, groups == g], parent[:, groups != g]
            assert (
                conditional_gmi(*triple, np.random.default_rng(0), splits=2, scale=scale)
                == bulk[c, g]
            )


@pytest.mark.parametrize("widths", [(1, 4, 2), (3, 1, 6), (2, 2, 2)])
def test_scaled_by_block_every_block_counts_as_much_however_many_channels_it_has(widths) -> None:
    """As without scaling on blocks whose channels have been standardised and divided by √width."""
    rng = np.random.default_rng(7)
    blocks = [rng.normal(size=(240, w)) * rng.uniform(0.1, 9, w) for w in widths]
    blocks[0][:, 0] += blocks[1][:, 0]
    equal = [(b - b.mean(0)) / b.std(0) / np.sqrt(b.shape[1]) for b in blocks]
    assert alone(*blocks, scale="block") == alone(*equal, scale="none")
    standard = [b * np.sqrt(b.shape[1]) for b in equal]
    assert alone(*blocks, scale="standard") == alone(*standard, scale="none")
    if len(set(widths)) > 1:
        assert alone(*blocks, scale="block") != alone(*blocks, scale="standard")


def test_splits_are_averaged_and_the_halves_are_disjoint_splits() -> None:
    child, parent, labels = torch.randn(90, 2), torch.randn(90, 2), torch.arange(2)
    whole = gmi(child, parent, labels, labels, np.random.default_rng(0), splits=4, scale="none")
    assert torch.allclose((whole.halves[0] + whole.halves[1]) / 2, whole.score)
    first = gmi(child, parent, labels, labels, np.random.default_rng(0), splits=2, scale="none")
    assert torch.equal(first.score, whole.halves[0])
    assert (
        gmi(child, parent, labels, labels, np.random.default_rng(0), splits=1, scale="none").halves
        is None
    )


def test_settings_outside_their_bounds_are_named() -> None:
    with pytest.raises(SettingError, match="splits must be at least 1, not 0"):
        check(100, splits=0, scale="none")
    with pytest.raises(SettingError, match="scale must be one of none, standard, block, not unit"):
        check(100, splits=1, scale="unit")
