"""Blocks of connections: groups cover every channel once, and a cell is all between two of them."""

import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.granularity.blocks import blocks, contiguous, count
from mint_cli.network.cells import sizes
from mint_cli.protocol import Layer


def layer(name: str, *shape: int) -> Layer:
    return Layer(name, "Conv2d", shape, 9, 1)


@pytest.mark.parametrize(
    ("channels", "groups"), [(10, 3), (7, 7), (512, 128), (784, 98), (5, 1), (300, 7)]
)
def test_groups_cover_all_channels_in_order_and_their_sizes_differ_by_at_most_one(channels, groups):
    group = contiguous(channels, groups)
    held = group.bincount()
    assert len(held) == groups and held.sum() == channels and held.max() - held.min() <= 1
    assert (group.diff() >= 0).all() and group.dtype == torch.int32


def test_a_cell_is_every_weight_between_its_child_and_its_parent_group():
    cells = blocks(None, {"a": layer("a", 7, 5, 3, 3)}, child_groups=3, parent_groups=2)["a"]
    labels = cells.labels["a.weight"]
    child, parent = contiguous(7, 3), contiguous(5, 2)
    assert cells.shape == (3, 2) and labels.shape == (7, 5) and labels.dtype == torch.int32
    for o in range(7):
        for i in range(5):
            assert labels[o, i] == child[o] * 2 + parent[i]
    held = sizes(cells, {"a.weight": torch.zeros(7, 5, 3, 3)}, {"a.weight"})
    assert held.tolist() == [[3 * 3 * 9, 3 * 2 * 9], [2 * 3 * 9, 2 * 2 * 9], [2 * 3 * 9, 2 * 2 * 9]]


def test_without_numbers_every_kernel_is_a_cell_and_a_mapping_sets_single_layers():
    layers = {"a": layer("a", 7, 5, 3, 3), "b": layer("b", 6, 4)}
    alone = blocks(None, layers, child_groups=None, parent_groups=None)
    assert alone["a"].shape == (7, 5) and alone["b"].shape == (6, 4)
    mixed = blocks(
        None, layers, child_groups={"default": 3, "b": 2}, parent_groups={"default": None}
    )
    assert mixed["a"].shape == (3, 5) and mixed["b"].shape == (2, 4)
    assert [count({"b": 2}, name, 7, "groups") for name in ("a", "b")] == [7, 2]


@pytest.mark.parametrize("value", [0, -1, 8])
def test_a_count_outside_the_channels_is_refused_with_setting_bound_value_and_layer(value):
    wanted = f"child_groups must lie between 1 and 7, the channels of layer a, not {value}"
    with pytest.raises(SettingError, match=wanted):
        blocks(None, {"a": layer("a", 7, 5)}, child_groups=value, parent_groups=None)
    with pytest.raises(SettingError, match="parent_groups must lie between 1 and 5"):
        blocks(None, {"a": layer("a", 7, 5)}, child_groups=7, parent_groups=7)
