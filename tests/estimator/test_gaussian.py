"""gaussian: closed forms, invariances, equality with determinants written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.estimator.gaussian import check, gaussian

RIDGE = 1e-5


def score(
    child, parent, child_groups, parent_groups, form: str = "information", ridge: float = RIDGE
) -> torch.Tensor:
    """The estimate from all rows."""
    sides = (torch.as_tensor(np.asarray(side)).float() for side in (child, parent))
    labels = (torch.as_tensor(groups) for groups in (child_groups, parent_groups))
    return gaussian(*sides, *labels, np.random.default_rng(0), ridge=ridge, form=form).score


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_a_gaussian_pair_gives_the_closed_form_within_three_standard_errors(
    correlation: float,
) -> None:
    rng, n = np.random.default_rng(0), 20_000
    x, noise, z = rng.normal(size=(3, n, 1))
    y = correlation * x + np.sqrt(1 - correlation**2) * noise
    truth = -0.5 * np.log(1 - correlation**2)
    # The standard error of ½ log(1 − r²) is r / √n; at r = 0 it is χ²/2n distributed.
    for child in (x, x + 2 * z):
        assert (
            abs(float(score(child, np.c_[y, z], [0], [0, 1])[0, 0]) - truth)
            < 3 * correlation / np.sqrt(n) + 5 / n
        )


def test_every_pair_equals_the_determinants_of_its_own_covariances() -> None:
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(9, 9))
    values = rng.normal(size=(400, 9)) @ mix
    child_groups, groups = np.array([1, 0, 1, 1]), np.array([0, 2, 1, 0, 0])
    found = score(values[:, :4], values[:, 4:], child_groups, groups, ridge=0.05)
    covariance = np.corrcoef(values.T) + 0.05 * np.eye(9)

    def log_det(columns: np.ndarray) -> float:
        return np.linalg.slogdet(covariance[np.ix_(columns, columns)])[1]

    for c in range(2):
        for g in range(3):
            x, y, z = (
                np.flatnonzero(child_groups == c),
                4 + np.flatnonzero(groups == g),
                4 + np.flatnonzero(groups != g),
            )
            truth = 0.5 * (
                log_det(np.r_[x, z]) + log_det(np.r_[y, z]) - log_det(z) - log_det(np.r_[x, y, z])
            )
            assert float(found[c, g]) == pytest.approx(truth, abs=1e-5)


def test_variance_is_what_the_group_alone_explains_in_the_childs_own_units() -> None:
    rng, n = np.random.default_rng(2), 50_000
    y, z, noise = rng.normal(size=(3, n, 1))
    y = y + z  # the part of Y that Z does not know has variance 1
    child = 7 * (3 * y + z + noise)
    found = score(child, np.c_[y, z], [0], [0, 1], form="variance")
    assert float(found[0, 0]) == pytest.approx(49 * 9, rel=0.03)


def test_information_is_blind_to_units_and_variance_goes_with_the_square_of_the_childs_unit() -> (
    None
):
    rng = np.random.default_rng(3)
    parent = rng.normal(size=(500, 4))
    child = parent[:, :2] + rng.normal(size=(500, 2))
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    plain = score(child, parent, [0, 0], [0, 0, 1, 1])
    turned = np.c_[parent[:, :2] @ turn, 9 * parent[:, 2:] @ turn + 4]
    assert torch.allclose(
        score(5 * child @ turn - 1, turned, [0, 0], [0, 0, 1, 1]), plain, atol=2e-4
    )
    variance = [score(unit * child, parent, [0, 0], [0, 0, 1, 1], "variance") for unit in (1, 3)]
    assert torch.allclose(9 * variance[0], variance[1], rtol=1e-4)


def test_the_order_of_samples_changes_no_score() -> None:
    child, parent = torch.randn(300, 3), torch.randn(300, 4)
    order = torch.randperm(300)
    first, second = (
        score(child[rows], parent[rows], [0, 0, 1], [0, 0, 1, 1])
        for rows in (torch.arange(300), order)
    )
    assert torch.allclose(first, second, atol=1e-6)


def test_information_rises_with_correlation() -> None:
    rng = np.random.default_rng(4)
    x, noise, z = rng.normal(size=(3, 2000, 1))
    found = [
        float(score(x, np.c_[r * x + np.sqrt(1 - r * r) * noise, z], [0], [0, 1])[0, 0])
        for r in (0.0, 0.2, 0.5, 0.8, 0.95)
    ]
    assert found == sorted(found)


@pytest.mark.parametrize("form", ["information", "variance"])
def test_fewer_samples_than_parents_are_enough(form: str) -> None:
    rng = np.random.default_rng(5)
    parent = rng.normal(size=(40, 100))
    found = score(
        parent[:, :4] + 0.1 * rng.normal(size=(40, 4)),
        parent,
        [0, 0, 1, 1],
        np.arange(100) // 4,
        form,
        0.01,
    )
    assert found.isfinite().all() and (found >= 0).all()
    assert found.argmax(1).tolist() == [0, 0]


def test_settings_outside_their_bounds_are_named() -> None:
    with pytest.raises(SettingError, match="ridge must be at least 1e-05, not 0"):
        check(100, ridge=0.0, form="variance")
    with pytest.raises(SettingError, match="form must be one of information, variance, not cmi"):
        check(100, ridge=0.1, form="cmi")
