"""Paired samples laid out group after group, and halves that are not the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mint_cli.errors import DataError, SettingError
from mint_cli.kernel import sample as sa


def test_channels_stand_group_after_group_each_in_its_own_order() -> None:
    values = torch.arange(12.0).view(2, 6)
    side = sa.side(values, torch.tensor([1, 0, 2, 1, 0, 0]), "child")
    assert side.values[0].tolist() == [1, 4, 5, 0, 3, 2] and side.values.dtype == torch.float64
    assert side.starts.tolist() == [0, 3, 5, 6] and len(side) == 3
    assert side.slices() == [slice(0, 3), slice(3, 5), slice(5, 6)]


def test_channels_that_never_vary_are_not_live() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [1.0, 5.0, 3.0]])
    side = sa.side(values, torch.tensor([0, 0, 1]), "child")
    assert side.live.tolist() == [False, True, False]
    assert side.live_counts().tolist() == [1, 0]


def test_standardised_channels_have_mean_zero_and_variance_one_and_constants_are_zero() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(3, 5, (50, 4)))
    values[:, 2] = 7.0
    found = sa.standardised(sa.side(values, torch.arange(4), "child")).values
    assert (found[:, 2] == 0).all()
    rest = found[:, [0, 1, 3]]
    torch.testing.assert_close(rest.mean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(rest.square().mean(0), torch.ones(3, dtype=torch.float64))


def test_pairs_with_a_constant_group_score_exactly_zero() -> None:
    child = sa.side(torch.tensor([[1.0, 2.0], [1.0, 3.0]]), torch.arange(2), "child")
    parent = sa.side(torch.tensor([[0.0, 2.0], [1.0, 2.0]]), torch.arange(2), "parent")
    score = torch.full((2, 2), 5.0)
    assert sa.silence_dead(score, child, parent).tolist() == [[0, 0], [5, 0]]


def test_halves_of_splits_average_disjoint_splits_and_one_split_has_none() -> None:
    scores = [torch.tensor([float(i)]) for i in (1, 2, 4, 8)]
    found = sa.from_splits(scores)
    assert found.score == 3.75 and [float(h) for h in found.halves] == [1.5, 6.0]
    assert sa.from_splits(scores[:1]).halves is None
    three = sa.from_splits(scores[:3])
    assert [float(h) for h in three.halves] == [1.0, 3.0]


def test_halves_of_samples_see_disjoint_random_halves_of_the_rows_and_the_score_all_of_them() -> (
    None
):
    rows = torch.arange(41.0)[:, None].double()
    side, seen = sa.side(rows, torch.zeros(1, dtype=torch.int64), "child"), []

    def spy(child: sa.Side, parent: sa.Side) -> torch.Tensor:
        assert torch.equal(child.values, parent.values)
        seen.append(child.values[:, 0].tolist())
        return child.values.mean()

    found = sa.from_samples(spy, side, side, np.random.default_rng(0))
    first, second, every = seen
    assert sorted(first + second) == every == rows[:, 0].tolist()
    assert {len(first), len(second)} == {20, 21} and first != sorted(first)
    assert [float(h) for h in found.halves] == [
        np.mean(first),
        np.mean(second),
    ] and found.score == 20


@pytest.mark.parametrize(
    ("values", "groups", "told"),
    [
        (torch.zeros(4), torch.zeros(4), "child needs rows × channels"),
        (torch.zeros(4, 3), torch.zeros(2), "one group per channel"),
        (torch.zeros(4, 3), torch.tensor([0, 2, 2]), "child group 1 has no channels"),
        (
            torch.full((4, 2), torch.inf),
            torch.tensor([1, 0]),
            "child group 0 holds NaN or infinite",
        ),
    ],
)
def test_samples_that_cannot_be_used_are_told_with_side_and_group(
    values, groups, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        sa.side(values, groups.long(), "child")


def test_unpaired_and_too_few_rows_are_refused() -> None:
    groups = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(DataError, match="must be the same samples, not 4 and 5 rows"):
        sa.sides(torch.rand(4, 1), torch.rand(5, 1), groups, groups)
    sa.check_rows(6, 6)
    with pytest.raises(SettingError, match="samples must be at least 6 .*, not 5"):
        sa.check_rows(5, 6)
