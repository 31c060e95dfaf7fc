"""What schedules of several rounds share."""

import pytest

from mint_cli.errors import SettingError
from mint_cli.schedule.rounds import MOST, each, numbered


def test_rounds_are_numbered_by_their_share_of_all_and_the_last_is_not_computed():
    assert numbered(4, 0.7, lambda done: done) == [0.25, 0.5, 0.75, 0.7]


def test_a_sparsity_is_needed_and_rounds_are_bounded():
    assert each(0.5, MOST) == 0.5
    with pytest.raises(SettingError, match="must lie between 1 and 1000, not 1001"):
        each(0.5, MOST + 1)
    with pytest.raises(SettingError, match="needs a sparsity"):
        each(None, 2)
