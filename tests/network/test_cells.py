"""Arithmetic of cells, on a site that spans layers: channels of one layer where they are made and
read.
"""

import pytest
import torch
from torch import nn

from mint_cli.errors import SettingError
from mint_cli.network import cells as ce
from mint_cli.network.layers import apply_masks
from mint_cli.protocol import Cells


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.made = nn.Conv2d(2, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.read = nn.Conv2d(6, 4, 1)  # its last input comes from elsewhere


@pytest.fixture
def model() -> nn.Module:
    return Coupled()


@pytest.fixture
def channels() -> Cells:
    """Three cells: channels 0 and 1, channel 2, channels 3 and 4; whoever makes, norms or reads
    them.
    """
    cell = torch.tensor([0, 0, 1, 2, 2], dtype=torch.int32)
    read = torch.cat([cell, torch.tensor([-1], dtype=torch.int32)]).expand(4, 6)
    rows = dict.fromkeys(["made.weight", "made.bias", "norm.weight", "norm.bias"], cell)
    return Cells((3,), {**rows, "read.weight": read})


@pytest.fixture
def inputs() -> Cells:
    """A second site: the last input of the reading layer."""
    labels = torch.full((4, 6), -1, dtype=torch.int32)
    labels[:, 5] = 0
    return Cells((1,), {"read.weight": labels})


def by_hand(model, first: int, last: int) -> torch.Tensor:
    """All elements of channels ``first`` to ``last``."""
    made = [model.made.weight, model.made.bias, model.norm.weight, model.norm.bias]
    parts = [p[first:last].flatten() for p in made] + [model.read.weight[:, first:last].flatten()]
    return torch.cat(parts).detach().double()


RANGES = [(0, 2), (2, 3), (3, 5)]


def test_sums_and_means_run_over_all_elements_of_a_cell_in_every_parameter(model, channels):
    values = {name: p * 2 for name, p in model.named_parameters()}
    sums, means = ce.summed(channels, values), ce.mean(channels, values)
    assert sums.shape == (3,) and sums.dtype == torch.float64
    for cell, ends in enumerate(RANGES):
        own = 2 * by_hand(model, *ends)
        torch.testing.assert_close(sums[cell], own.sum())
        torch.testing.assert_close(means[cell], own.mean())


def test_parameters_without_values_and_elements_of_no_cell_count_nothing(model, channels):
    only = {"read.weight": torch.ones(4, 6, 1, 1), "other": torch.ones(3)}
    assert ce.summed(channels, only).tolist() == [8, 4, 8]
    assert ce.mean(channels, only).tolist() == [1, 1, 1]
    assert ce.mean(channels, {}).tolist() == [0, 0, 0]


def test_sizes_are_the_elements_of_the_parameters_that_are_counted(model, channels):
    parameters = dict(model.named_parameters())
    every = ce.sizes(channels, parameters, parameters)
    assert every.tolist() == [len(by_hand(model, *ends)) for ends in RANGES] == [50, 25, 50]
    weights = ce.sizes(channels, parameters, {"made.weight", "read.weight"})
    assert weights.tolist() == [2 * 18 + 8, 18 + 4, 2 * 18 + 8] and weights.dtype == torch.int64


def test_a_mask_stands_where_a_cell_goes_and_nowhere_else(model, channels):
    masks = ce.masks_of({"site": channels}, {"site": torch.tensor([True, False, True])})
    rows = [True, True, False, True, True]
    assert all(masks[name].tolist() == rows for name in channels.labels if name != "read.weight")
    assert masks["read.weight"].tolist() == [[*rows, True]] * 4
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    apply_masks(model, masks)
    assert not by_hand(model, 2, 3).any()
    for first, last in ((0, 2), (3, 5)):
        assert torch.equal(model.made.weight[first:last], before["made.weight"][first:last])
        assert torch.equal(model.read.weight[:, first:last], before["read.weight"][:, first:last])
    assert torch.equal(model.read.bias, before["read.bias"])


def test_an_element_of_two_sites_stays_where_both_keep_it(channels, inputs):
    cells = {"channels": channels, "inputs": inputs}
    kept = {"channels": torch.tensor([False, True, True]), "inputs": torch.tensor([False])}
    mask = ce.masks_of(cells, kept)["read.weight"]
    assert mask.tolist() == [[False, False, True, True, True, False]] * 4


def test_masks_of_unequal_axes_join_on_their_leading_ones():
    rows, whole = torch.tensor([True, False]), torch.tensor([[True, False], [True, True]])
    wanted = [[True, False], [False, False]]
    assert ce.both(rows, whole).tolist() == wanted == ce.both(whole, rows).tolist()
    assert ce.both(None, rows) is rows


WEIGHTS = {"made.weight", "read.weight"}


def test_cells_are_gone_of_which_the_masks_have_left_nothing(model, channels):
    cells = {"site": channels}
    masks = ce.masks_of(cells, {"site": torch.tensor([True, False, True])})
    assert ce.gone(cells, masks, WEIGHTS)["site"].tolist() == [False, True, False]
    assert not ce.gone(cells, {}, WEIGHTS)["site"].any()


def test_of_what_is_gone_the_weights_decide_wherever_they_are(channels):
    """A checkpoint's zeros are masks of weights alone; a channel that is still read is not gone."""
    cells = {"site": channels}
    masks = ce.masks_of(cells, {"site": torch.zeros(3, dtype=torch.bool)})
    masks.pop("norm.bias")
    assert ce.gone(cells, masks, WEIGHTS)["site"].all()
    masks.pop("read.weight")
    assert not ce.gone(cells, masks, WEIGHTS)["site"].any()
    assert not ce.gone(cells, masks, set())["site"].any()


def test_masks_of_single_weights_leave_blocks_gone_that_they_have_emptied():
    """As a checkpoint's zeros come: a mask of the weight's own shape, cells of leading axes."""
    cells = {"a": Cells((2, 3), {"w": torch.arange(6, dtype=torch.int32).view(2, 3)})}
    mask = torch.ones(2, 3, 3, 3, dtype=torch.bool)
    mask[0, 1] = False
    mask[1, 2, 0] = False
    assert ce.gone(cells, {"w": mask}, {"w"})["a"].tolist() == [[False, True, False], [False] * 3]


def test_masks_of_blocks_leave_single_weights_gone():
    cells = {"a": Cells((2, 2, 2), {"w": torch.arange(8, dtype=torch.int32).view(2, 2, 2)})}
    mask = torch.tensor([[True, False], [True, True]])
    found = ce.gone(cells, {"w": mask}, {"w"})["a"]
    assert torch.equal(found, ~mask[:, :, None].expand(2, 2, 2))


def test_blocks_are_the_pairs_of_their_child_and_their_parent_groups():
    child, parent = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 2, 0])
    cells = Cells((2, 3), {"w": (child[:, None] * 3 + parent[None, :]).int()})
    rows, columns = ce.rectangles(cells, "w", (3, 4, 2, 1))
    assert rows.tolist() == [0, 1, 1] and columns.tolist() == [1, 1, 0, 0, 2, 2, 0, 0]


def test_cells_of_one_axis_are_judged_by_all_outputs_that_read_them():
    cells = Cells((2,), {"w": torch.tensor([0, 1, 1], dtype=torch.int32).expand(4, 3)})
    rows, columns = ce.rectangles(cells, "w", (4, 3))
    assert rows.tolist() == [0] * 4 and columns.tolist() == [0, 1, 1]


def test_cells_that_are_no_pairs_are_refused():
    odd = Cells((2, 2), {"w": torch.tensor([[0, 1], [3, 2]], dtype=torch.int32)})
    with pytest.raises(SettingError, match="granularity must cut the weight of w into pairs"):
        ce.rectangles(odd, "w", (2, 2))


def test_cells_of_one_axis_are_coupled_channels_and_others_parts_of_one_weight(channels):
    assert ce.is_coupled(channels) and not ce.is_coupled(Cells((3, 2), {}))


def test_totals_count_the_elements_of_every_cell_at_least_one(model, channels):
    assert ce.total(channels, ce.parameters_of(model, channels)).tolist() == [44, 22, 44]
    assert ce.total(channels, {}).tolist() == [1, 1, 1]


def test_the_weights_of_cells_are_neither_biases_nor_norms_nor_statistics(model, channels):
    labels = {**channels.labels, "norm.running_mean": channels.labels["norm.bias"]}
    found = ce.parameters_of(model, Cells((3,), labels))
    assert found == {"made.weight": model.made.weight, "read.weight": model.read.weight}


def test_the_parameter_of_a_layers_cells_and_cells_that_span_layers(channels, inputs):
    assert ce.only_weight(inputs) == "read.weight"
    with pytest.raises(
        SettingError, match="must have cells of one layer here, these span made.weight, made.bias"
    ):
        ce.only_weight(channels)


def test_scores_of_a_unit_sum_of_squares_and_zeros_that_stay_zeros():
    torch.testing.assert_close(ce.unit(torch.tensor([3.0, 4.0])), torch.tensor([0.6, 0.8]))
    zeros = torch.zeros(2, dtype=torch.float64)
    assert torch.equal(ce.unit(zeros), zeros)


def test_readers_are_the_layers_whose_columns_are_labelled_those_beside_among_them():
    rows, columns = torch.tensor([0, 1]), torch.tensor([[1, -1, 0]]).expand(4, 3)
    beside = torch.tensor([[-1, 0, -1]]).expand(4, 3)
    labels = {"made.weight": rows, "made.bias": rows, "read.weight": columns}
    found = ce.all_readers(Cells((2,), labels, {"read.weight": beside, "other.weight": columns}))
    assert {name: owner.tolist() for name, owner in found.items()} == {
        "read": [1, 0, 0],
        "other": [1, -1, 0],
    }
