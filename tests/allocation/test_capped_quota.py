"""One quota for all sites: exact counts, caps that hold, never all of a site."""

import pytest
import torch

from mint_cli.allocation.capped_quota import capped_quota
from mint_cli.errors import SettingError, Unreachable


def allocate(scores, sizes, wanted, cap=1.0, caps=None):
    return capped_quota(scores, sizes, wanted, cap=cap, caps=caps or {})


def ones(scores):
    return {site: torch.ones(s.shape, dtype=torch.int64) for site, s in scores.items()}


def gone(kept, sizes):
    return {site: int(sizes[site][~own].sum()) for site, own in kept.items()}


def test_equal_scores_lose_exactly_the_wanted_number_first_cell_first():
    scores = {"a": torch.zeros(2, 5), "b": torch.zeros(3, 2)}
    kept = allocate(scores, ones(scores), 8)
    assert kept["a"].flatten().tolist() == [False] * 8 + [True] * 2 and kept["b"].all()


@pytest.mark.parametrize("wanted", [0, 1, 310, 465, 837, 921])
def test_the_count_is_exact_when_a_weight_is_a_cell(wanted):
    scores = {"a": torch.rand(20, 30), "b": torch.rand(30, 11)}
    assert sum(gone(allocate(scores, ones(scores), wanted), ones(scores)).values()) == wanted


def test_the_count_is_exact_when_small_cells_can_fill_what_large_ones_leave():
    scores = {"conv": torch.rand(8, 8), "fc": torch.rand(10, 10)}
    sizes = {"conv": torch.full((8, 8), 9), "fc": torch.ones(10, 10, dtype=torch.int64)}
    for wanted in range(0, 560, 7):
        assert sum(gone(allocate(scores, sizes, wanted), sizes).values()) == wanted


def test_the_smallest_of_three_sizes_fill_what_is_left():
    scores = {
        "large": torch.zeros(2),
        "middle": torch.full((2,), 1.0),
        "small": torch.full((6,), 2.0),
    }
    sizes = {
        "large": torch.full((2,), 25),
        "middle": torch.full((2,), 9),
        "small": torch.ones(6).long(),
    }
    assert gone(allocate(scores, sizes, 12), sizes) == {"large": 0, "middle": 9, "small": 3}


@pytest.mark.parametrize("seed", range(5))
def test_of_cells_of_any_size_in_one_site_never_more_go_than_wanted_and_no_other_would_fit(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = {s: torch.rand(12, generator=generator) for s in "abc"}
    sizes = {s: torch.randint(1, 9, (12,), generator=generator) for s in "abc"}
    may_go = {s: torch.arange(12) != int(score.argmax()) for s, score in scores.items()}
    most = sum(int(sizes[s][own].sum()) for s, own in may_go.items())
    for wanted in range(0, most + 1, 3):
        kept = allocate(scores, sizes, wanted)
        missing = wanted - sum(gone(kept, sizes).values())
        assert missing >= 0
        assert all((sizes[s][may_go[s] & kept[s]] > missing).all() for s in "abc")
        assert all(own.any() for own in kept.values())


def test_cells_go_in_order_of_their_scores_however_large_they_are():
    scores = {"a": torch.tensor([0.1, 0.2, 0.3, 9.0]), "b": torch.tensor([0.15, 0.25, 9.0])}
    sizes = {"a": torch.tensor([5, 1, 4, 1]), "b": torch.tensor([2, 7, 1])}
    kept = allocate(scores, sizes, 5 + 2 + 1)
    assert kept["a"].tolist() == [False, False, True, True] and kept["b"].tolist() == [
        False,
        True,
        True,
    ]


def test_caps_hold_exactly_and_what_they_save_goes_elsewhere():
    scores = {"a": torch.rand(10, 10) - 5, "b": torch.rand(10, 10)}
    kept = allocate(scores, ones(scores), 100, cap=0.9, caps={"a": 0.45})
    assert gone(kept, ones(scores)) == {"a": 45, "b": 55}


def test_a_cap_counts_weights_and_not_cells():
    scores = {"a": torch.arange(5.0), "b": torch.arange(20.0) + 9}
    sizes = {"a": torch.tensor([6, 1, 1, 1, 1]), "b": torch.ones(20, dtype=torch.int64)}
    assert gone(allocate(scores, sizes, 12, caps={"a": 0.5}), sizes) == {"a": 0, "b": 12}
    assert gone(allocate(scores, sizes, 12, caps={"a": 0.7}), sizes) == {"a": 7, "b": 5}


def test_a_site_never_loses_all_its_cells():
    scores = {"a": torch.zeros(3, 3), "b": torch.ones(30, 30)}
    kept = allocate(scores, ones(scores), 800)
    assert kept["a"].sum() == 1


def test_what_is_gone_already_goes_first():
    scores = {"a": torch.tensor([1.0, -torch.inf, 2.0]), "b": torch.tensor([0.1, 3.0])}
    kept = allocate(scores, ones(scores), 2)
    assert kept["a"].tolist() == [True, False, True] and kept["b"].tolist() == [False, True]


def test_more_than_the_caps_allow_is_unreachable_with_the_most_that_is_not():
    scores = {"a": torch.rand(10), "b": torch.rand(8)}
    sizes = {"a": torch.full((10,), 3), "b": torch.arange(8) + 1}
    with pytest.raises(Unreachable) as refusal:
        allocate(scores, sizes, 10**6, cap=0.5)
    most = refusal.value.most
    assert sum(gone(allocate(scores, sizes, most, cap=0.5), sizes).values()) == most
    with pytest.raises(Unreachable):
        allocate(scores, sizes, most + 1, cap=0.5)


def test_it_needs_a_number():
    with pytest.raises(SettingError, match="sparsity must be a number"):
        allocate({"a": torch.rand(3)}, {"a": torch.ones(3).long()}, None)
