"""ResNet56: the published counts, and parents and children that need no list of layer pairs."""

import pytest
import torch
from torch.nn import functional as F

from mint_cli.model.resnet56 import resnet56, shortcut
from mint_cli.network.layers import weight_counts, weighted_layers
from mint_cli.network.observe import activations, channel_means, passage
from mint_cli.protocol import Images


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet56((3, 32, 32), 10).eval()


@pytest.fixture(scope="module")
def pictures():
    return Images(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))


def test_it_has_the_published_number_of_parameters_and_weights(network):
    assert sum(p.numel() for p in network.parameters()) == 853_018
    counts = weight_counts(network)
    assert sum(counts.values()) == 848_944
    assert list(counts) == [f"conv{i}.weight" for i in range(1, 56)] + ["linear.weight"]


def test_shortcuts_have_no_weights_and_pad_with_zero_channels():
    x = torch.rand(2, 16, 8, 8)
    assert shortcut(x, 16) is x
    wide = shortcut(x, 32)
    assert torch.equal(wide[:, 8:24], x[:, :, ::2, ::2]) and not wide[:, :8].any() and not wide[:, 24:].any()


def test_parents_and_children_of_every_layer_are_its_own_input_and_output_channels(network, pictures):
    modules = weighted_layers(network)
    recorded = activations(network, list(modules), pictures, torch.arange(4))
    for name, (parent, child) in recorded.items():
        out_in = modules[name].weight.shape[:2]
        assert (child.shape[1], parent.shape[1]) == out_in
    x = pictures.pixels.float() / 255  # by hand: the stem and the first block, whose sum is what conv4 sees
    with torch.no_grad():
        stem = F.relu(network.bn1(network.conv1(x)))
        inner = F.relu(network.bn2(network.conv2(stem)))
        block = F.relu(network.bn3(network.conv3(inner)) + stem)
    for name, entering in (("conv2", stem), ("conv3", inner), ("conv4", block)):
        torch.testing.assert_close(recorded[name][0], channel_means(modules[name], entering))
        torch.testing.assert_close(recorded[name][1], channel_means(modules[name], modules[name](entering)))


def test_the_additions_are_found_without_naming_layers(network):
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = {name: passage(network, name, x) for name in weighted_layers(network)}
    assert [name for name, seen in found.items() if seen.added is not None] == [f"conv{i}" for i in range(3, 56, 2)]
    assert all(seen.norm == name.replace("conv", "bn") for name, seen in found.items() if name != "linear")
    assert found["linear"].norm is None
