"""Units found from one pass: what their branches hold, what goes past them, and what is none."""

import pytest
import torch
from branches import PIXELS, dense, images, network, residual
from channels import Net, conv, pooled
from networks import seeded
from torch import nn
from torchvision import models

from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.network.layers import inference
from mint_cli.network.units import Joining, find, gone, maps, modules_of


def found(build):
    return find(seeded(build), PIXELS)


def names(build):
    return [unit.name for unit in found(build).units]


def test_a_residual_unit_is_the_side_of_a_sum_with_more_layers_and_all_its_parameters():
    units = {unit.name: unit for unit in found(residual).units}
    assert list(units) == ["first", "second", "third"]
    kinds = [f"first.{i}.{kind}" for i in (0, 1, 3, 4) for kind in ("weight", "bias")]
    assert set(units["first"].parameters) == set(kinds) - {"first.0.bias", "first.3.bias"}
    assert units["second"].layers == ("second.0", "second.3")
    assert not [p for p in units["second"].parameters if p.startswith("short")]
    assert units["second"].kind == "residual" and units["second"].shape == (8, 4, 4)


def test_a_dense_unit_is_what_is_concatenated_to_what_it_is_made_of():
    units = {unit.name: unit for unit in found(dense).units}
    assert list(units) == ["first", "second", "third"]
    assert units["second"].kind == "dense" and units["second"].layers == ("second.2", "second.5")
    assert modules_of(units["second"]) == ["second.0", "second.2", "second.3", "second.5"]


def test_channels_that_several_concatenations_read_are_one_unit():
    def forward(m, x):
        first = m.first(x)
        second = m.second(torch.cat([x, first], 1))
        return m.out(pooled(torch.cat([x, first, second], 1)))

    build = lambda: Net(forward, first=conv(3, 2), second=conv(5, 2), out=nn.Linear(7, 3))  # noqa: E731
    units = found(build).units
    assert [(unit.name, len(unit.joins)) for unit in units] == [("first", 2), ("second", 1)]
    assert [join.past for join in units[0].joins] == [(0,), (0,)] and units[1].joins[0].past == (
        0,
        1,
    )


def test_resnet56_has_its_27_units_those_that_change_shapes_among_them():
    units = find(
        resnet_cifar((3, 32, 32), 10, depth=56, bottleneck=False).eval(), (3, 32, 32)
    ).units
    assert [unit.name for unit in units] == [f"conv{i}" for i in range(2, 56, 2)]
    assert [len(unit.parameters) for unit in units] == [6] * 27
    assert [unit.shape for unit in units[8:10]] == [(16, 32, 32), (32, 16, 16)]


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("resnet18", 8, "layer1.0"),
        ("densenet121", 58, "features.denseblock1.denselayer1"),
        ("mobilenet_v2", 10, "features.3.conv"),
        ("squeezenet1_1", 0, None),
    ],
)
def test_units_of_torchvisions_networks_are_their_blocks(name, count, first):
    model = getattr(models, name)(weights=None, num_classes=10).eval()
    units = find(model, (3, 32, 32)).units
    assert len(units) == count and (not first or units[0].name == first)


def summed(inner):
    """A stem, one sum of ``inner`` of its channels, a classifier."""
    return lambda: Net(
        lambda m, x: m.out(pooled(inner(m, m.stem(x)))),
        stem=conv(3, 4), one=conv(4, 4), two=conv(4, 4), out=nn.Linear(4, 3),
    )  # fmt: skip


def reused(m, x):
    y = m.one(x)
    return (x + y) * y


@pytest.mark.parametrize(
    ("inner", "fixed"),
    [
        (lambda m, x: x + m.one(x) + m.one(x), {"one": "something else uses one.weight"}),
        (reused, {"one": "something else reads what its branch makes"}),
        (
            lambda m, x: x + torch.sigmoid(m.one(x)),
            {"one": "it does not give zeros where all its parameters are 0"},
        ),
        (lambda m, x: m.one(x) + m.two(x), {}),  # neither is a shortcut
        (lambda m, x: x + 2, {}),
        (lambda m, x: torch.add(x, m.one(x), alpha=2), {}),
    ],
)
def test_what_is_no_unit_is_left_and_if_it_looks_like_one_told(inner, fixed):
    assert names(summed(inner)) == [] and found(summed(inner)).fixed == fixed


def test_a_unit_that_holds_another_is_told_and_the_inner_one_found():
    def inner(m, x):
        y = m.one(x)
        return x + (y + m.two(y))

    assert names(summed(inner)) == ["two"]
    assert found(summed(inner)).fixed == {"one": "it holds the unit two"}


@pytest.mark.parametrize("build", [residual, dense])
def test_a_unit_whose_parameters_are_0_gives_zeros_whatever_enters_it(build):
    model = network(build)
    units, seen = find(model, PIXELS).units, []
    with torch.no_grad():
        for name in units[1].parameters:
            model.get_parameter(name).zero_()
    assert gone(model, units) == [units[1]]
    with inference(model), Joining(units, lambda i, own, past: seen.append(bool(own.any()))):
        model(images())
    assert seen == [True, False, True]


def test_what_meets_where_units_join_can_be_replaced_and_only_there():
    model = network(residual)
    units = find(model, PIXELS).units
    with torch.no_grad():
        dark = network(residual)
        for name in units[0].parameters:
            dark.get_parameter(name).zero_()
        with Joining(units[:1], lambda i, own, past: torch.zeros_like(own)):
            instead = model(images())
        assert torch.equal(instead, dark(images())) and not torch.equal(instead, model(images()))


def test_maps_have_channels_second_also_where_tokens_come_before_them():
    model = seeded(
        lambda: Net(
            lambda m, x: m.out((lambda t: t + m.one(t))(x.flatten(2).mT).mean(1)),
            one=nn.Linear(3, 3), out=nn.Linear(3, 2),
        )
    )  # fmt: skip
    unit = find(model, PIXELS).units[0]
    assert unit.axis == -1 and maps(unit, torch.zeros(2, 64, 3)).shape == (2, 3, 64)
    assert maps(find(network(residual), PIXELS).units[0], torch.zeros(2, 6, 8, 8)).shape == (
        2,
        6,
        64,
    )


def test_the_network_is_left_as_it_was():
    model = network(residual)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    find(model, PIXELS)
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
