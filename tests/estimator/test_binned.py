"""binned: exact on symbols, nearly unbiased with the correction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.estimator.binned import binned, check, entropy


def score(
    child: np.ndarray, parent: np.ndarray, groups: list[int], bins: int = 2, corrected: bool = False
) -> torch.Tensor:
    """Scores of one child channel and one parent group a label."""
    sides = torch.from_numpy(child).double(), torch.from_numpy(parent).double()
    return binned(
        *sides,
        torch.tensor([0]),
        torch.tensor(groups),
        np.random.default_rng(0),
        bins=bins,
        corrected=corrected,
    ).score[0]


def coins(*repeats: int) -> np.ndarray:
    """Every combination of three fair coins, so that frequencies are exact: (8 · repeats, 3)."""
    return np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)] * repeats[0])


def test_symbols_give_their_exact_information() -> None:
    a, b, c = coins(5).T
    both = np.c_[a, b]
    assert score((a ^ b)[:, None], both, [0, 1]).tolist() == pytest.approx(
        [np.log(2), np.log(2)]
    )  # given the other, everything
    assert score(a[:, None], both, [0, 1]).tolist() == pytest.approx([np.log(2), 0])
    assert score(c[:, None], both, [0, 1]).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert score(a[:, None], np.c_[a, a], [0, 1]).tolist() == pytest.approx(
        [0, 0], abs=1e-12
    )  # redundant parents
    assert score((a ^ b)[:, None], both, [0, 0]).tolist() == pytest.approx([np.log(2)])


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("bins", [2, 4])
def test_a_channel_that_is_mostly_zero_tells_at_least_where_it_is(threshold, bins) -> None:
    y = np.maximum(np.random.default_rng(0).normal(size=(4000, 1)) - threshold, 0)
    zero = (y == 0).mean()
    at_zero = -(zero * np.log(zero) + (1 - zero) * np.log(1 - zero))
    assert score(y, y, [0], bins)[0] >= (at_zero if zero > 1 / bins else 0.9 * np.log(bins)) - 1e-9


def test_the_correction_takes_most_of_the_bias_away() -> None:
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(20):
        x, y, z = rng.normal(size=(3, 1000, 1))
        plain.append(float(score(x, np.c_[y, z], [0, 1], 4)[0]))
        corrected.append(float(score(x, np.c_[y, z], [0, 1], 4, True)[0]))
    assert np.mean(plain) == pytest.approx(3 * 3 * 4 / 2000, rel=0.2)  # (|X| − 1)(|Y| − 1)|Z| / 2n
    assert abs(np.mean(corrected)) < 3 * np.std(corrected, ddof=1) / np.sqrt(20)


def test_entropy_of_equal_frequencies_is_the_logarithm_of_their_number() -> None:
    assert entropy(np.arange(12) % 4, False) == pytest.approx(np.log(4))
    assert entropy(np.arange(12) % 4, True) == pytest.approx(np.log(4) + 3 / 24)


def test_information_rises_with_correlation() -> None:
    x, noise, z = np.random.default_rng(1).normal(size=(3, 4000, 1))
    found = [
        float(score(x, np.c_[r * x + np.sqrt(1 - r * r) * noise, z], [0, 1], 4, True)[0])
        for r in (0.0, 0.3, 0.6, 0.9)
    ]
    assert found == sorted(found)


def test_fewer_than_two_bins_are_refused() -> None:
    with pytest.raises(SettingError, match="bins must be at least 2, not 1"):
        check(100, bins=1, corrected=False)
