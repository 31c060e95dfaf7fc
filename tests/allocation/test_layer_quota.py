"""The same share of every site, to the nearest cell."""

import pytest
import torch

from mint_cli.allocation.layer_quota import layer_quota
from mint_cli.errors import SettingError, Unreachable


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int64)


def test_every_site_loses_the_share_to_the_nearest_cell_lowest_scores_first():
    scores = {"a": torch.rand(10, 10), "b": torch.rand(3, 4)}
    sizes = {"a": ones(10, 10), "b": 9 * ones(3, 4)}
    kept = layer_quota(scores, sizes, round(0.3 * (100 + 108)))
    assert int((~kept["a"]).sum()) == 30 and int((~kept["b"]).sum()) == 4  # 3.6 of 12: up
    for site, own in kept.items():
        assert scores[site][~own].max() <= scores[site][own].min()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.77, 0.95])
def test_of_cells_of_any_size_the_lowest_go_that_hold_the_share_most_nearly(share):
    generator = torch.Generator().manual_seed(3)
    scores = {s: torch.rand(9, generator=generator) for s in "abcd"}
    sizes = {s: torch.randint(1, 30, (9,), generator=generator) for s in "abcd"}
    total = sum(int(own.sum()) for own in sizes.values())
    kept = layer_quota(scores, sizes, round(share * total))
    for site, own in kept.items():
        held = sizes[site][scores[site].argsort()].cumsum(0)
        wanted = round(share * total) / total * int(held[-1])
        ways = [abs(float(h) - wanted) for h in (0, *held[:-1].tolist())]
        assert int((~own).sum()) == ways.index(min(ways))


def test_a_site_never_loses_all_its_cells_and_one_of_a_single_cell_none():
    scores = {"a": torch.rand(4), "b": torch.rand(1)}
    kept = layer_quota(scores, {"a": ones(4), "b": ones(1)}, 4)
    assert int(kept["a"].sum()) == 1 and kept["b"].all()


def test_the_counts_do_not_depend_on_the_scores():
    sizes = {"a": ones(7, 3), "b": ones(5)}
    counts = [
        [int((~own).sum()) for own in layer_quota(scores, sizes, 11).values()]
        for scores in ({"a": torch.rand(7, 3), "b": torch.rand(5) + shift} for shift in (-9, 0, 9))
    ]
    assert counts[0] == counts[1] == counts[2] and layer_quota.by_site


def test_all_weights_are_unreachable_and_a_number_is_needed():
    sizes = {"a": ones(10), "b": ones(3)}
    scores = {"a": torch.rand(10), "b": torch.rand(3)}
    with pytest.raises(Unreachable) as refusal:
        layer_quota(scores, sizes, 13)
    assert refusal.value.most == 13
    with pytest.raises(SettingError, match="sparsity must be a number"):
        layer_quota(scores, sizes, None)
