"""What a network costs, against counts by hand and against networks that are smaller."""

import pytest
import torch
from channelled import BUILDS, PIXELS, built
from torch import nn

from mint_cli.granularity.filters import filters
from mint_cli.network import cost
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import record
from mint_cli.network.surgery import shrink


def test_operations_and_parameters_of_a_small_network_are_those_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(96, 3))
    assert cost.macs(model, PIXELS) == 16 * 6 * 2 * 9 + 96 * 3
    assert cost.parameters(model) == 6 * 2 * 9 + 6 + 96 * 3 + 3


@pytest.mark.parametrize("name", BUILDS)
def test_operations_of_layers_are_those_of_the_whole_network(name):
    model = built(name)
    layers = record(model, PIXELS)
    elements = {n: p.numel() for n, p in model.named_parameters()}
    assert cost.layer_macs(layers, elements) == cost.macs(model, PIXELS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BUILDS)
def test_what_remains_is_what_the_smaller_network_has(name, seed):
    model = built(name)
    layers = record(model, PIXELS)
    cells = filters(Recorded(model, PIXELS), layers, residual=True)
    generator = torch.Generator().manual_seed(seed)
    kept = {site: torch.rand(own.shape, generator=generator) < 0.6 for site, own in cells.items()}
    for own in kept.values():
        own[0] = True
    small, parameters = shrink(model, cells, kept), dict(model.named_parameters())
    left = cost.remaining(parameters, cells, kept)
    assert left == {n: p.numel() for n, p in small.named_parameters()}
    assert cost.layer_macs(layers, left) == cost.macs(small, PIXELS)
