"""The same fraction of what is left goes in every round."""

import pytest

from mint_cli.errors import SettingError
from mint_cli.schedule.geometric import geometric


def test_every_round_leaves_the_same_fraction_of_what_the_round_before_left():
    left = [1.0, *(1 - s for s in geometric(0.9, count=5))]
    shares = [after / before for before, after in zip(left, left[1:], strict=False)]
    assert shares == pytest.approx([0.1 ** (1 / 5)] * 5)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5701, 0.98])
def test_the_last_round_asks_for_exactly_the_sparsity(sparsity):
    found = geometric(sparsity, count=7)
    assert found[-1] == sparsity and len(found) == 7 and found == sorted(found)
    assert geometric(sparsity, count=1) == [sparsity]


@pytest.mark.parametrize("count", [0, 10**9])
def test_a_number_of_rounds_outside_its_bounds_is_refused(count):
    with pytest.raises(SettingError, match=f"^count must lie between 1 and 1000, not {count}"):
        geometric(0.5, count=count)
