"""What networks cost: counted by hand."""

import torch
from channels import NETWORKS, PIXELS, filter_cells
from torch import nn

from mint_cli.network import cost
from mint_cli.network.layers import record


def test_operations_are_one_a_weight_and_position_without_biases_and_norms():
    model = NETWORKS["sequential"]()
    assert cost.macs(model, PIXELS) == 64 * (9 * 3 * 6 + 9 * 6 * 5) + 5 * 3
    assert cost.macs(NETWORKS["depthwise"](), PIXELS) == 64 * 9 * (3 * 6 + 12 + 12 * 5) + 5 * 3


def test_operations_by_layer_add_up_to_those_of_the_network():
    for build in NETWORKS.values():
        model = build()
        every = {name: p.numel() for name, p in model.named_parameters()}
        assert cost.layer_macs(record(model, PIXELS), every) == cost.macs(model, PIXELS)


def test_parameters_are_weights_biases_and_entries_of_norms():
    assert cost.parameters(NETWORKS["sequential"]()) == 162 + 6 + 12 + 270 + 5 + 15 + 3


def test_what_remains_loses_rows_and_columns_at_once():
    model = NETWORKS["sequential"]()
    kept = {"first": torch.arange(6) < 2, "last": torch.arange(5) < 3}
    left = cost.remaining(dict(model.named_parameters()), filter_cells(model), kept)
    assert left == {
        "first.weight": 2 * 27, "first.bias": 2, "norm.weight": 2, "norm.bias": 2,
        "last.weight": 3 * 2 * 9, "last.bias": 3, "out.weight": 9, "out.bias": 3,
    }  # fmt: skip


def test_the_mode_of_the_network_is_left_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 2)).train()
    assert cost.macs(model, PIXELS) == 384 and model.training
