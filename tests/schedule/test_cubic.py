"""Much goes early, little late."""

import pytest

from mint_cli.errors import SettingError
from mint_cli.schedule.cubic import cubic


def test_rounds_follow_the_cube_of_what_is_left_of_them():
    assert cubic(0.8, count=4) == pytest.approx(
        [0.8 * (1 - (1 - i / 4) ** 3) for i in (1, 2, 3, 4)]
    )


def test_every_round_takes_less_than_the_one_before_and_the_last_asks_for_exactly_the_sparsity():
    found = cubic(0.5701, count=6)
    steps = [b - a for a, b in zip([0.0, *found], found, strict=False)]
    assert steps == sorted(steps, reverse=True) and found[-1] == 0.5701


def test_without_a_sparsity_there_is_nothing_to_go_to():
    with pytest.raises(SettingError, match="^count above 1 needs a sparsity to go to, not 3"):
        cubic(None, count=3)
