"""Channels that carry nothing any more: found, and their constants moved to where they are read."""

import pytest
import torch
from channelled import BUILDS, PIXELS, built
from torch import nn

from mint_cli.granularity.filters import filters
from mint_cli.network.couplings import Recorded
from mint_cli.network.idle import settled
from mint_cli.network.layers import apply_masks, record
from mint_cli.network.surgery import difference, shrink


def cells_of(model):
    return filters(Recorded(model, PIXELS), record(model, PIXELS), residual=True)


def settle(model):
    cells, x = cells_of(model), torch.rand(6, *PIXELS)
    found, kept = settled(model, cells, x)
    return cells, found, kept


def test_a_network_that_has_lost_nothing_keeps_every_channel():
    for name in BUILDS:
        model = built(name)
        _, found, kept = settle(model)
        assert all(own.all() for own in kept.values())
        assert difference(model, found, torch.rand(3, *PIXELS)) == 0.0


def test_a_channel_that_no_weight_reads_carries_nothing_and_what_it_was_made_of_neither():
    """Channel 1 of c is not read; it alone read channel 2 of b."""
    model = built("Chain")
    with torch.no_grad():
        model.out.weight[:, 1] = 0.0
        model.c.weight[:, 8:12] = 0.0
        model.c.weight[1, 8:12] = 1.0
    _, found, kept = settle(model)
    assert kept["c"].tolist() == [True, False] + [True] * 5
    assert kept["b"].tolist() == [True, True, False, True, True] and kept["a"].all()
    assert difference(model, found, torch.rand(5, *PIXELS)) < 1e-6


def test_a_channel_that_nothing_makes_is_a_constant_that_moves_into_the_biases_of_its_readers():
    """Linear layers pad with nothing: whatever the constant is, it can move."""
    model = built("Chain")
    with torch.no_grad():
        model.c.weight[3] = 0.0
        model.c.bias[3] = 0.7
    cells, found, kept = settle(model)
    assert kept["c"].tolist() == [True] * 3 + [False] + [True] * 3
    x = torch.rand(5, *PIXELS)
    assert difference(model, found, x) < 1e-6
    assert difference(model, shrink(found, cells, kept), x) < 1e-6
    assert not torch.equal(found.out.bias, model.out.bias)


def test_a_constant_that_a_padded_convolution_reads_stays_unless_it_is_zero():
    """At the border the convolution reads zeros instead of it."""
    for bias, stays in ((1.0, True), (-9.0, False)):
        model = built("Chain")
        model.act = nn.ReLU()
        with torch.no_grad():
            model.a.weight[4] = 0.0
            model.a.bias[4], model.norm.weight[4], model.norm.bias[4] = 0.0, 1.0, bias
            model.norm.running_mean[4], model.norm.running_var[4] = 0.0, 1.0
        _, _, kept = settle(model)
        assert bool(kept["a"][4]) is stays


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BUILDS)
def test_of_a_network_with_single_weights_removed_the_smaller_one_gives_the_same(name, seed):
    model = built(name)
    generator = torch.Generator().manual_seed(seed)
    masks = {
        n: torch.rand(p.shape, generator=generator) < 0.25
        for n, p in model.named_parameters()
        if p.ndim > 1
    }
    apply_masks(model, masks)
    cells, found, kept = settle(model)
    x = torch.rand(5, *PIXELS)
    assert difference(model, shrink(found, cells, kept), x) < 1e-5


def test_a_layer_of_which_nothing_is_read_keeps_one_channel():
    model = built("Chain")
    with torch.no_grad():
        model.out.weight.zero_()
    cells, found, kept = settle(model)
    assert kept["c"].tolist() == [True] + [False] * 6
    x = torch.rand(5, *PIXELS)
    assert difference(model, shrink(found, cells, kept), x) < 1e-6


def test_the_network_itself_is_not_changed():
    model = built("Chain")
    with torch.no_grad():
        model.c.weight[3] = 0.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settle(model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
