"""Channels of masked networks that carry nothing: found, folded where that is exact, the same
outputs.
"""

from copy import deepcopy

import pytest
import torch
from channels import NETWORKS, Net, conv, filter_cells, images, padded, pooled
from networks import seeded
from torch import nn

from mint_cli.network.idle import settled
from mint_cli.network.surgery import difference, shrink


def chain(bias: bool = True, padding: int = 0) -> nn.Module:
    """Two convolutions, the second of which pads with zeros or not, and a linear layer."""
    return seeded(
        lambda: Net(
            lambda m, x: m.out(pooled(torch.relu(m.last(torch.relu(m.first(x)))))),
            first=conv(3, 4), last=conv(4, 5, padding=padding, bias=bias), out=nn.Linear(5, 3),
        )
    )  # fmt: skip


def left(model, **kept):
    """What of each site stays, and that outputs are the same after settling and after shrinking."""
    cells, x = filter_cells(model), images(5)
    before = deepcopy(model)
    same, found = settled(model, cells, x)
    assert difference(before, same, x) < 1e-5 and difference(before, model, x) == 0.0
    other = images(7, seed=3)  # constants are constants on other images, too
    assert difference(before, shrink(same, cells, found), other) < 1e-5
    return {site: own.int().tolist() for site, own in found.items()}


def zero(*tensors: torch.Tensor) -> None:
    with torch.no_grad():
        for t in tensors:
            t.zero_()


@pytest.mark.parametrize("network", NETWORKS)
def test_of_a_network_whose_channels_all_carry_something_nothing_goes(network):
    assert all(all(own) for own in left(NETWORKS[network]()).values())


def test_a_channel_that_nothing_reads_goes():
    model = chain()
    zero(model.last.weight[:, 2])
    assert left(model) == {"first": [1, 1, 0, 1], "last": [1] * 5}


@pytest.mark.parametrize("padding", [0, 1])
def test_a_channel_that_is_zero_goes_whatever_the_padding(padding):
    model = chain(padding=padding)
    zero(model.first.weight[1], model.first.bias[1])
    assert left(model)["first"] == [1, 0, 1, 1]


@pytest.mark.parametrize("padding", [0, 1])
def test_a_constant_channel_goes_where_no_padding_makes_it_another_at_the_border(padding):
    model = chain(padding=padding)
    zero(model.first.weight[1])
    model.first.bias.data[1] = 0.7
    assert left(model)["first"] == [1, padding, 1, 1]


def test_a_constant_channel_stays_where_its_reader_has_no_bias():
    model = chain(bias=False)
    zero(model.first.weight[1])
    model.first.bias.data[1] = 0.7
    assert left(model)["first"] == [1, 1, 1, 1]


def test_a_constant_that_the_activation_cuts_off_is_zero():
    model = chain(bias=False, padding=1)
    zero(model.first.weight[1])
    model.first.bias.data[1] = -0.7
    assert left(model)["first"] == [1, 0, 1, 1]


def test_what_only_channels_without_use_were_made_of_goes_too():
    model = chain()
    zero(model.last.weight[0, :], model.last.weight[:, 3])
    model.last.weight.data[1:, 2] = 0.0  # channel 2 is read by output 0 alone ...
    model.last.weight.data[0, 2] = 1.0
    zero(model.out.weight[:, 0])  # ... which nothing reads
    assert left(model) == {"first": [1, 1, 0, 0], "last": [0, 1, 1, 1, 1]}


def test_a_channel_made_of_constants_alone_is_a_constant():
    model = chain()
    zero(model.first.weight[1], *(model.last.weight[2, c] for c in (0, 2, 3)))
    model.first.bias.data[1] = 0.7
    assert left(model) == {"first": [1, 0, 1, 1], "last": [1, 1, 0, 1, 1]}


@pytest.mark.parametrize("padding", [0, 1])
def test_a_layer_keeps_one_channel_even_of_constants(padding):
    model = chain(padding=padding)
    zero(model.first.weight)
    model.first.bias.data.fill_(0.7)
    found = left(model)["first"]
    assert found == ([1] * 4 if padding else [1, 0, 0, 0])


def test_a_layer_that_nothing_reads_keeps_one_channel():
    model = chain()
    zero(model.last.weight)
    assert left(model) == {"first": [1, 0, 0, 0], "last": [1, 0, 0, 0, 0]}


def test_every_maker_of_a_stream_keeps_one_channel():
    model = seeded(padded)
    zero(model.own.weight, model.own.bias, model.wide.weight[:3], model.wide.bias[:3])
    cells = filter_cells(model)
    found = settled(model, cells, images())[1]
    labels = cells["own"].labels
    for maker in ("own.weight", "wide.weight"):
        assert found["own"][labels[maker].long()].any()


def test_constants_go_through_norms_and_depthwise_convolutions():
    model = NETWORKS["depthwise"]()
    zero(model.first.weight[1], model.first.bias[1], model.deep.bias[2:4])
    assert left(model)["first"] == [1, 0, 1, 1, 1, 1]
    model = NETWORKS["sequential"]()
    zero(model.first.weight[1], model.norm.weight[1])
    model.norm.bias.data[1] = -1.0
    assert left(model)["first"] == [1, 0, 1, 1, 1, 1]


def test_a_channel_of_a_sum_stays_while_one_of_its_makers_has_weights():
    model = NETWORKS["residual"]()
    zero(model.outer.weight[2], model.outer.bias[2])
    assert left(model)["stem"] == [1] * 6
    zero(model.stem.weight[2], model.stem.bias[2])
    assert left(model)["stem"] == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("network", sorted(NETWORKS.keys() - {"split"}))
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_networks_masked_at_weights_give_the_same_outputs(network, share):
    model = NETWORKS[network]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                kernels = torch.rand(p.shape[:2], generator=generator) < share
                p.mul_(kernels.view(*p.shape[:2], *[1] * (p.ndim - 2)))
    left(model)
