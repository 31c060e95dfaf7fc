"""One cut-off for all sites: a quantile of the unique scores."""

import pytest
import torch

from mint_cli.allocation.threshold import threshold
from mint_cli.errors import SettingError


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64)


def test_the_cut_is_a_quantile_of_the_unique_scores_so_ties_remove_more_than_asked():
    scores = {"a": torch.tensor([[0.0] * 7 + [1.0, 2.0, 3.0]])}
    kept = threshold(scores, {"a": ones(1, 10)}, None, quantile=0.34, cap=1.0, caps={})
    assert int((~kept["a"]).sum()) == 8 and threshold.decides


def test_the_cap_holds_exactly_and_a_quantile_of_zero_removes_none():
    scores = {"a": torch.zeros(10, 10), "b": torch.ones(10, 10)}
    sizes = {"a": ones(10, 10), "b": ones(10, 10)}
    kept = threshold(scores, sizes, None, quantile=0.1, cap=0.8, caps={})
    assert int((~kept["a"]).sum()) == 80 and kept["b"].all()
    none = threshold(scores, sizes, None, quantile=0.0, cap=1.0, caps={})
    assert all(own.all() for own in none.values())


def test_a_cap_counts_weights_where_cells_differ_in_size():
    scores, sizes = (
        {"a": torch.zeros(4), "b": torch.ones(2)},
        {"a": torch.tensor([5, 2, 2, 1]), "b": ones(2)},
    )
    kept = threshold(scores, sizes, None, quantile=0.5, cap=1.0, caps={"a": 0.7})
    assert kept["a"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("quantile", [-0.1, 1.0])
def test_a_quantile_outside_zero_and_one_is_refused(quantile):
    with pytest.raises(SettingError, match=rf"quantile must lie in \[0, 1\), not {quantile}"):
        threshold({"a": torch.rand(3)}, {"a": ones(3)}, None, quantile=quantile, cap=1.0, caps={})
