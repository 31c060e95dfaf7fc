"""What the allocations share: caps by site, stable order, never all of a site."""

import pytest
import torch

from mint_cli.allocation.quota import (
    candidates,
    cap_of,
    lowest_first,
    sitewise,
    wanted_count,
    without,
)
from mint_cli.errors import SettingError


def test_a_sites_own_cap_overrides_the_common_one():
    assert cap_of("a", 0.9, {"a": 0.25}) == 0.25 and cap_of("b", 0.9, {"a": 0.25}) == 0.9


@pytest.mark.parametrize(("cap", "caps", "named"), [(1.5, {}, "cap"), (0.5, {"a": -0.1}, "caps.a")])
def test_a_cap_outside_zero_and_one_is_refused_by_name(cap, caps, named):
    with pytest.raises(SettingError, match=rf"^{named} must lie in \[0, 1\], not"):
        cap_of("a", cap, caps)


def test_a_count_is_needed():
    assert wanted_count(0) == 0
    with pytest.raises(SettingError, match="sparsity must be a number"):
        wanted_count(None)


def test_cells_go_from_the_lowest_on_and_equal_ones_in_order_of_position():
    score = torch.tensor([[2.0, 1.0], [1.0, -torch.inf]])
    assert lowest_first(score).tolist() == [3, 1, 2, 0]


def test_the_last_cell_never_goes_and_neither_does_what_a_cap_forbids():
    score, sizes = torch.arange(4.0), torch.tensor([3, 3, 1, 3])
    assert candidates(score, sizes, 1.0).tolist() == [0, 1, 2]
    assert candidates(score, sizes, 0.6).tolist() == [0, 1]  # 6 of 10 weights
    assert candidates(score, sizes, 0.59).tolist() == [0]
    assert candidates(score, sizes, 0.0).tolist() == []


def test_choices_say_what_stays_in_the_shape_of_the_site():
    score = torch.tensor([[3.0, 1.0], [2.0, 4.0]])
    assert without(score, torch.tensor([1])).tolist() == [[True, False], [True, True]]
    assert sitewise({"a": score}, {"a": 2})["a"].tolist() == [[True, False], [False, True]]
