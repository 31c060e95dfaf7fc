import pytest
import torch

from mint_cli import group
from mint_cli.errors import SettingError


@pytest.mark.parametrize(("channels", "groups"), [(10, 3), (7, 7), (512, 128), (784, 98), (5, 1), (300, 7)])
def test_groups_cover_all_channels_and_their_sizes_differ_by_at_most_one(channels, groups):
    sizes = group.labels(channels, groups).bincount()
    assert len(sizes) == groups and sizes.sum() == channels and sizes.max() - sizes.min() <= 1


def test_a_block_mean_is_the_mean_of_the_cells_of_the_block():
    cells, child, parent = torch.rand(7, 5), group.labels(7, 3), group.labels(5, 2)
    means = group.block_mean(cells, child, parent)
    for c in range(3):
        for p in range(2):
            torch.testing.assert_close(means[c, p], cells[child == c][:, parent == p].double().mean())


def test_expanding_gives_every_connection_the_value_of_its_block():
    blocks, child, parent = torch.rand(3, 2), group.labels(7, 3), group.labels(5, 2)
    cells = group.expand(blocks, child, parent)
    assert cells.shape == (7, 5) and all(cells[i, j] == blocks[child[i], parent[j]] for i in range(7) for j in range(5))


@pytest.mark.parametrize("value", [0, -1, 8, "five"])
def test_a_group_count_outside_the_channels_is_refused_with_setting_bound_and_value(value):
    with pytest.raises(SettingError, match=f"pruner.child_groups.*between 1 and 7.*not {value}"):
        group.count(value, "fc2", 7, "child_groups")


def test_a_mapping_sets_single_layers_and_null_means_one_group_a_channel():
    assert group.count({"default": 3, "fc2": 2}, "fc2", 7, "groups") == 2
    assert group.count({"default": 3, "fc2": 2}, "fc1", 7, "groups") == 3
    assert group.count(None, "fc1", 7, "groups") == 7
