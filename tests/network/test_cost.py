"""What networks cost: counted by hand."""

import itertools

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


def test_peak_activations_are_the_largest_results_that_are_needed_at_once():
    chain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten())
    assert cost.peak_activations(chain, PIXELS) == 4 * (4 + 4) * 64  # a convolution and its ReLU
    chain[1] = nn.ReLU(inplace=True)
    assert cost.peak_activations(chain, PIXELS) == 4 * (4 + 2) * 64

    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.first(x)
            return x + self.second(x)

    assert cost.peak_activations(Shortcut(), PIXELS) == 4 * 3 * 4 * 64


def test_networks_are_timed_in_turn_after_one_pass_that_does_not_count():
    turns = []

    class Noted(nn.Linear):
        def forward(self, x):
            turns.append(self.out_features)
            return super().forward(x)

    models = {"wide": Noted(4, 3), "narrow": Noted(4, 2)}
    ticks = itertools.count()
    found = cost.in_turn(models, torch.zeros(1, 4), 3, 100.0, lambda: float(next(ticks)))
    assert turns == [3, 2] + [3, 2] * 3
    assert found == {"wide": [1.0] * 3, "narrow": [1.0] * 3}


def test_no_turn_begins_once_enough_time_has_passed_but_one_is_taken():
    ticks = itertools.count()
    models = {"only": nn.Linear(4, 3)}
    found = cost.in_turn(models, torch.zeros(1, 4), 50, 0.0, lambda: float(next(ticks)))
    assert len(found["only"]) == 1


def test_latency_is_a_median_between_quartiles():
    models = {"a": NETWORKS["sequential"](), "b": NETWORKS["depthwise"]()}
    found = cost.latency(models, PIXELS, 2, 5, 100.0)
    for one in found.values():
        assert 0 < one["low"] <= one["median"] <= one["high"] and one["passes"] == 5
