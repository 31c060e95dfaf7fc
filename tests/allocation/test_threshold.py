import torch

from mint_cli.allocation.threshold import threshold


def test_the_cut_is_a_quantile_of_the_unique_scores_so_ties_remove_more_than_asked():
    scores = {"a": torch.tensor([[0.0] * 7 + [1.0, 2.0, 3.0]])}
    assert int((~threshold(scores, {"a": 10}, quantile=0.34, cap=1.0, caps={})["a"]).sum()) == 8


def test_the_cap_holds_exactly_and_a_quantile_of_zero_removes_none():
    scores = {"a": torch.zeros(10, 10), "b": torch.ones(10, 10)}
    masks = threshold(scores, {"a": 100, "b": 100}, quantile=0.1, cap=0.8, caps={})
    assert int((~masks["a"]).sum()) == 80 and masks["b"].all()
    assert all(m.all() for m in threshold(scores, {"a": 100, "b": 100}, quantile=0.0, cap=1.0, caps={}).values())
