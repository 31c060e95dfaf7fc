"""Whole units as cells: what belongs to one, what reads it, and what cannot go and why."""

import pytest
import torch
from branches import PIXELS, dense, images, network, residual, unit_cells, without
from channels import NETWORKS

from mint_cli.errors import SettingError
from mint_cli.granularity.units import units
from mint_cli.network.cells import is_unit, masks_of, sizes
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import apply_masks, inference, prunable_layers, record
from mint_cli.network.units import Joining, find


def test_a_cell_is_all_parameters_of_a_branch_and_what_cannot_go_is_named():
    own = unit_cells(network(residual))["units"]
    assert own.shape == (3,) and own.names == ("first", "second", "third") and is_unit(own)
    assert own.fixed == dict.fromkeys(("stem", "short", "out"), "no shortcut goes past it")
    assert own.labels["second.0.weight"].tolist() == [1] * 8
    assert own.labels["second.1.bias"].tolist() == [1] * 8 and "short.weight" not in own.labels
    counted = sizes(own, dict(network(residual).named_parameters()), own.labels)
    assert counted.tolist() == [2 * 9 * 36 + 24, 9 * 48 + 9 * 64 + 32, 2 * 9 * 64 + 32]


def test_units_of_one_shape_are_a_site_where_stages_are_asked_for():
    cells = unit_cells(network(residual), stages=True)
    assert {s: own.names for s, own in cells.items()} == {
        "units1": ("first",),
        "units2": ("second", "third"),
    }


def test_what_a_dense_unit_makes_is_read_by_columns_and_entries_of_norms_that_go_with_it():
    reads = unit_cells(network(dense))["units"].reads
    assert reads["second.0.weight"].tolist() == [-1] * 6 + [0] * 4
    assert reads["norm.bias"].tolist() == [-1] * 6 + [0] * 4 + [1] * 4
    assert reads["transition.weight"].unique(dim=0).tolist() == [[-1] * 6 + [0] * 4 + [1] * 4]
    assert reads["out.weight"][0].tolist() == [-1] * 6 + [2] * 4
    assert reads["first.5.weight"].unique().tolist() == [-1]  # may be solved anew, and that is all


def test_layers_before_the_first_unit_are_read_by_nothing_that_changes():
    assert "stem.weight" not in unit_cells(network(residual))["units"].reads


@pytest.mark.parametrize("build", [residual, dense])
def test_a_masked_unit_adds_exactly_nothing_to_the_network(build):
    model = network(build)
    cells = unit_cells(model)
    wanted = find(model, PIXELS).units[1]
    masks = masks_of(cells, without(cells, "second"))
    parameters = dict(model.named_parameters())
    apply_masks(model, {name: mask for name, mask in masks.items() if name in parameters})
    met = []
    with inference(model), Joining([wanted], lambda i, own, past: met.append((own, past))):
        model(images())
    assert len(met) == 1 and not met[0][0].any() and met[0][1][0].any()


@pytest.mark.parametrize("build", [residual, dense])
def test_masks_of_no_unit_change_nothing(build):
    model = network(build)
    cells = unit_cells(model)
    assert all(mask.all() for mask in masks_of(cells, without(cells)).values())


def test_a_unit_with_a_skipped_layer_stays_and_is_named():
    model = network(residual)
    layers = prunable_layers(record(model, PIXELS), ["second.3"])
    own = units(Recorded(model, PIXELS), layers, stages=False)["units"]
    assert own.names == ("first", "third") and own.fixed["second"] == "layer second.3 is skipped"
    assert "second.0.weight" not in own.labels and "second.3.weight" not in own.reads


def test_a_network_without_units_is_refused_and_told_what_has_them():
    model = NETWORKS["sequential"]()
    with pytest.raises(
        SettingError, match="^granularity finds no .* unit .*; units are what resnets"
    ):
        unit_cells(model)
    model = network(residual)
    layers = prunable_layers(record(model, PIXELS), ["first*", "second*", "third*"])
    with pytest.raises(SettingError, match="finds no .* first: layer first.0 is skipped"):
        units(Recorded(model, PIXELS), layers, stages=False)


def test_a_dense_unit_that_a_grouped_convolution_reads_stays():
    def grouped():
        net = dense()
        net.transition = torch.nn.Conv2d(14, 6, 1, groups=2, bias=False)
        return net

    own = unit_cells(network(grouped))["units"]
    assert own.names == ("third",)
    assert own.fixed["first"] == "transition reads it, which cannot lose single channels"
