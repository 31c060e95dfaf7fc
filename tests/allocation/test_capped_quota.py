import pytest
import torch

from mint_cli.allocation.capped_quota import capped_quota
from mint_cli.errors import SettingError


def allocate(scores, weights, sparsity, of="prunable", cap=1.0, caps=None):
    return capped_quota(scores, weights, sparsity=sparsity, of=of, cap=cap, caps=caps or {})


def gone(masks, weights):
    return sum(int((~m).sum()) * (weights[n] // m.numel()) for n, m in masks.items())


def test_equal_scores_lose_exactly_the_asked_share_first_cell_first():
    masks = allocate({"a": torch.zeros(2, 5), "b": torch.zeros(3, 2)}, {"a": 10, "b": 6}, 0.5)
    assert gone(masks, {"a": 10, "b": 6}) == 8
    assert masks["a"].flatten().tolist() == [False] * 8 + [True] * 2


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3337, 0.5, 0.9, 0.99])
def test_the_count_is_exact_when_a_weight_is_a_cell(sparsity):
    scores, weights = {"a": torch.rand(20, 30), "b": torch.rand(30, 11)}, {"a": 600, "b": 330}
    assert gone(allocate(scores, weights, sparsity), weights) == round(sparsity * 930)


def test_the_count_is_exact_when_small_cells_can_fill_what_large_ones_leave():
    scores, weights = {"conv": torch.rand(8, 8), "fc": torch.rand(10, 10)}, {"conv": 64 * 9, "fc": 100}
    for wanted in range(0, 560, 7):
        assert abs(gone(allocate(scores, weights, wanted / 676), weights) - wanted) < 1


def test_the_smallest_of_three_cell_sizes_fill_what_is_left():
    scores = {"large": torch.zeros(1, 2), "middle": torch.full((1, 2), 1.0), "small": torch.full((1, 6), 2.0)}
    weights = {"large": 50, "middle": 18, "small": 6}
    masks = allocate(scores, weights, 12 / 74)
    assert gone(masks, weights) == 12 and [int((~m).sum()) for m in masks.values()] == [0, 1, 3]


def test_the_lowest_scores_of_all_layers_go():
    scores = {"a": torch.tensor([[0.1, 0.9]]), "b": torch.tensor([[0.2, 0.8]])}
    masks = allocate(scores, {"a": 2, "b": 2}, 0.5)
    assert masks["a"].tolist() == [[False, True]] and masks["b"].tolist() == [[False, True]]


def test_caps_hold_exactly_and_what_they_save_goes_elsewhere():
    scores, weights = {"a": torch.rand(10, 10) - 5, "b": torch.rand(10, 10)}, {"a": 100, "b": 100}
    masks = allocate(scores, weights, 0.5, cap=0.9, caps={"a": 0.45})
    assert int((~masks["a"]).sum()) == 45 and int((~masks["b"]).sum()) == 55


def test_a_layer_never_loses_all_its_cells():
    masks = allocate({"a": torch.zeros(3, 3), "b": torch.ones(30, 30)}, {"a": 9, "b": 900}, 0.9)
    assert masks["a"].sum() == 1


def test_all_weights_as_denominator_counts_the_layers_that_are_not_prunable():
    weights = {"a": 100, "fixed": 100}
    assert gone(allocate({"a": torch.rand(10, 10)}, weights, 0.25, of="all"), weights) == 50


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5])
def test_a_sparsity_outside_zero_and_one_is_refused(sparsity):
    with pytest.raises(SettingError, match=f"sparsity must lie in .*not {sparsity}"):
        allocate({"a": torch.rand(3, 3)}, {"a": 9}, sparsity)


def test_a_sparsity_that_the_caps_forbid_is_refused_with_the_largest_reachable():
    with pytest.raises(SettingError, match=r"at most 0\.4500"):
        allocate({"a": torch.rand(10, 10)}, {"a": 100}, 0.5, cap=0.45)
