"""Channels taken out physically: the same outputs as with zeros in their place."""

from copy import deepcopy

import branches
import pytest
import torch
from channels import NETWORKS, PIXELS, Net, conv, filter_cells, images, pooled, some, varied
from networks import seeded
from torch import nn

from mint_cli.errors import DataError
from mint_cli.model.densenet import densenet
from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.network import cost
from mint_cli.network.cells import masks_of
from mint_cli.network.layers import apply_masks, record, weight_counts
from mint_cli.network.surgery import Zeros, difference, drop, indices, narrow, shrink
from mint_cli.network.units import find, modules_of
from mint_cli.stage.budget import Ledger

SMALL_PIXELS = (3, 32, 32)


def resnet18():
    models = pytest.importorskip("torchvision.models")
    return models.resnet18(num_classes=10)


def mobilenet_v2():
    models = pytest.importorskip("torchvision.models")
    return models.mobilenet_v2(num_classes=10)


def masked(model, cells, kept):
    copy = deepcopy(model)
    parameters = dict(copy.named_parameters())
    apply_masks(copy, {n: m for n, m in masks_of(cells, kept).items() if n in parameters})
    return copy


def agree(model, cells, kept, pixels):
    """Outputs, parameters and operations of the smaller network are those foretold."""
    small = shrink(model, cells, kept)
    x = images(3, pixels)
    assert difference(masked(model, cells, kept), small, x) < 1e-5
    parameters = dict(model.named_parameters())
    left = cost.remaining(parameters, cells, kept)
    assert left == {name: p.numel() for name, p in small.named_parameters()}
    ledger = Ledger(parameters, weight_counts(model), record(model, pixels))
    foretold = ledger.whole(cells, "macs") - ledger.removed(cells, kept, "macs")
    assert cost.macs(small, pixels) == foretold
    return small


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("network", sorted(NETWORKS.keys() - {"split"}))  # cut in halves by number
def test_masked_and_shrunken_networks_agree_and_cost_what_is_foretold(network, residual, seed):
    model = NETWORKS[network]()
    cells = filter_cells(model, residual)
    small = agree(model, cells, some(cells, seed), PIXELS)
    assert cost.parameters(small) < cost.parameters(model)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("build", [resnet18, mobilenet_v2])
def test_networks_of_torchvision_agree_and_cost_what_is_foretold(build, residual):
    model = seeded(lambda: varied(build()))
    cells = filter_cells(model, residual, SMALL_PIXELS)
    agree(model, cells, some(cells, 1, 0.6), SMALL_PIXELS)


def concatenations():
    return densenet(SMALL_PIXELS, 10, depth=16, growth=4, reduction=0.5)


def norms_first():
    return resnet_cifar(SMALL_PIXELS, 10, depth=11, bottleneck=True)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("build", [concatenations, norms_first])
def test_networks_of_ours_agree_and_cost_what_is_foretold(build, residual):
    model = seeded(lambda: varied(build()))
    cells = filter_cells(model, residual, SMALL_PIXELS)
    small = agree(model, cells, some(cells, 1), SMALL_PIXELS)
    assert cost.parameters(small) < 0.7 * cost.parameters(model)


def test_the_network_itself_is_left_as_it_was():
    model = NETWORKS["sequential"]()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    cells = filter_cells(model)
    shrink(model, cells, some(cells))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_numbers_of_channels_in_the_modules_are_those_of_their_tensors():
    model = NETWORKS["depthwise"]()
    cells = filter_cells(model)
    kept = {"first": torch.arange(6) < 2, "last": torch.arange(5) < 3}
    small = shrink(model, cells, kept)
    assert (small.first.out_channels, small.deep.groups, small.deep.in_channels) == (2, 2, 2)
    assert (small.deep.out_channels, small.last.in_channels, small.last.out_channels) == (4, 4, 3)
    assert (small.out.in_features, small.out.out_features) == (3, 3)
    model = NETWORKS["prelu"]()
    small = shrink(model, filter_cells(model), {"first": torch.arange(6) < 2})
    assert small.act.num_parameters == 2
    small = shrink(NETWORKS["sequential"](), filter_cells(NETWORKS["sequential"]()),
                   {"first": torch.arange(6) < 2, "last": torch.arange(5) < 3})  # fmt: skip
    assert small.norm.num_features == len(small.norm.running_var) == 2


def test_a_parameter_that_wants_no_gradient_still_wants_none():
    model = NETWORKS["sequential"]()
    model.first.weight.requires_grad_(False)
    cells = filter_cells(model)
    small = shrink(model, cells, some(cells))
    assert not small.first.weight.requires_grad and small.last.weight.requires_grad


def test_rows_and_columns_alone_rebuild_the_shape_of_the_smaller_network():
    model = NETWORKS["concatenated"]()
    cells = filter_cells(model)
    kept = some(cells)
    small, again = shrink(model, cells, kept), NETWORKS["concatenated"]()
    narrow(again, *indices(cells, kept))
    again.load_state_dict(small.state_dict())
    assert difference(small, again, images()) == 0.0


def test_norms_without_factors_lose_their_statistics():
    model = seeded(
        lambda: Net(
            lambda m, x: m.out(pooled(torch.relu(m.norm(m.first(x))))),
            first=conv(3, 6), norm=nn.BatchNorm2d(6, affine=False), out=nn.Linear(6, 3),
        )
    )  # fmt: skip
    cells = filter_cells(model)
    small = agree(model, cells, some(cells), PIXELS)
    assert len(small.norm.running_mean) == small.norm.num_features == small.first.out_channels


@pytest.mark.parametrize(
    "layer",
    [
        conv(3, 5), conv(3, 5, stride=2), conv(3, 5, padding=2, dilation=2), conv(3, 6, groups=3),
        conv(3, 5, padding="same"), nn.Conv2d(3, 5, (1, 4), padding=(0, 3), stride=(2, 1)),
        nn.Linear(8, 7),
    ],
)  # fmt: skip
def test_zeros_have_the_shape_of_what_they_stand_for(layer):
    x = images(2)
    out = Zeros(layer)(x)
    assert out.shape == layer(x).shape and not out.any() and not list(Zeros(layer).parameters())


@pytest.mark.parametrize("build", [branches.residual, branches.dense])
def test_a_masked_unit_and_one_that_is_gone_are_the_same_and_cost_what_is_foretold(build):
    model = branches.network(build)
    cells = branches.unit_cells(model)
    kept = branches.without(cells, "first", "third")
    dark, parameters = masked(model, cells, kept), dict(model.named_parameters())
    lost = [unit for unit in find(model, PIXELS).units if unit.name in ("first", "third")]
    small = deepcopy(dark)
    drop(small, [name for unit in lost for name in modules_of(unit)])
    assert difference(dark, small, images(3)) < 1e-6
    own = {n for unit in lost for n in unit.parameters}
    assert cost.parameters(small) == sum(p.numel() for n, p in parameters.items() if n not in own)
    ledger = Ledger(parameters, weight_counts(model), record(model, PIXELS))
    left = {
        of: ledger.whole(cells, of) - ledger.removed(cells, kept, of)
        for of in ("macs", "parameters")
    }
    if build is branches.residual:  # of a dense one's readers columns go as well
        assert left == {"macs": cost.macs(small, PIXELS), "parameters": cost.parameters(small)}
    else:
        assert left["macs"] < cost.macs(small, PIXELS)


def test_what_nothing_can_stand_for_is_refused_by_name():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    with pytest.raises(DataError, match="1 cannot be left out, it is ReLU"):
        drop(model, ["1"])
