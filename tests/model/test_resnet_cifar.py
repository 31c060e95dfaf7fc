"""Residual networks for small images: the published counts, and parents without a list of pairs."""

import pytest
import torch
from networks import resnet56, seeded
from torch.nn import functional as F

from mint_cli.errors import SettingError
from mint_cli.model.resnet_cifar import resnet_cifar, shortcut
from mint_cli.network.layers import weight_counts, weighted_layers
from mint_cli.network.observe import activations, channel_means, passage
from mint_cli.protocol import Images


@pytest.fixture(scope="module")
def network():
    return seeded(lambda: resnet56((3, 32, 32), 10))


@pytest.fixture(scope="module")
def pictures():
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    return Images(pixels, torch.zeros(4, dtype=torch.int64))


def test_it_has_the_published_number_of_parameters_and_weights(network):
    assert sum(p.numel() for p in network.parameters()) == 853_018
    counts = weight_counts(network)
    assert sum(counts.values()) == 848_944
    assert list(counts) == [f"conv{i}.weight" for i in range(1, 56)] + ["linear.weight"]


def test_shortcuts_have_no_weights_and_pad_with_zero_channels():
    x = torch.rand(2, 16, 8, 8)
    assert shortcut(x, 16) is x
    wide = shortcut(x, 32)
    assert torch.equal(wide[:, 8:24], x[:, :, ::2, ::2])
    assert not wide[:, :8].any() and not wide[:, 24:].any()


def test_parents_and_children_of_every_layer_are_its_own_channels(network, pictures):
    modules = weighted_layers(network)
    recorded = activations(network, list(modules), pictures, torch.arange(4))
    for name, (parent, child) in recorded.items():
        out_in = modules[name].weight.shape[:2]
        assert (child.shape[1], parent.shape[1]) == out_in
    x = pictures.pixels.float() / 255
    # by hand: the stem and the first block, whose sum is what conv4 sees
    with torch.no_grad():
        stem = F.relu(network.bn1(network.conv1(x)))
        inner = F.relu(network.bn2(network.conv2(stem)))
        block = F.relu(network.bn3(network.conv3(inner)) + stem)
    for name, entering in (("conv2", stem), ("conv3", inner), ("conv4", block)):
        torch.testing.assert_close(recorded[name][0], channel_means(modules[name], entering))
        leaving = channel_means(modules[name], modules[name](entering))
        torch.testing.assert_close(recorded[name][1], leaving)


def test_the_additions_are_found_without_naming_layers(network):
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = {name: passage(network, name, x) for name in weighted_layers(network)}
    summed = [name for name, seen in found.items() if seen.added is not None]
    assert summed == [f"conv{i}" for i in range(3, 56, 2)]
    assert found.pop("linear").norm is None
    assert all(seen.norm == name.replace("conv", "bn") for name, seen in found.items())


# 0.27, 0.46, 0.66, 0.85 and 1.7 million in He et al., 1.7 with bottlenecks
PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 164: 1_703_258}


@pytest.mark.parametrize("depth", PARAMETERS)
def test_every_depth_has_its_parameters_and_its_number_of_layers(depth):
    model = resnet_cifar((3, 32, 32), 10, depth=depth, bottleneck=depth == 164)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[depth]
    layers = [name for name in weighted_layers(model) if not name.startswith("shortcut")]
    assert len(layers) == depth


@pytest.mark.parametrize("depth, bottleneck", [(8, False), (11, True)])
def test_images_of_other_sizes_and_channels_become_one_logit_a_class(depth, bottleneck):
    build = resnet_cifar((1, 20, 24), 7, depth=depth, bottleneck=bottleneck).eval()
    assert build(torch.zeros(2, 1, 20, 24)).shape == (2, 7)


def test_bottlenecks_see_what_their_own_norm_gives_and_so_do_projections():
    model = seeded(lambda: resnet_cifar((3, 32, 32), 10, depth=11, bottleneck=True))
    seen = {}
    for name, module in weighted_layers(model).items():
        module.register_forward_pre_hook(lambda m, x, name=name: seen.update({name: x[0]}))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        stem = model.conv1(x)
        normed = F.relu(model.bn2(stem))
        inner = F.relu(model.bn4(model.conv3(F.relu(model.bn3(model.conv2(normed))))))
        first = model.shortcut1(normed) + model.conv4(inner)
        model(x)
        torch.testing.assert_close(seen["shortcut1"], normed)
        torch.testing.assert_close(seen["conv5"], F.relu(model.bn5(first)))
    assert seen["shortcut3"].shape[1:] == (128, 16, 16) and seen["linear"].shape == (2, 256)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"depth": 57}, r"depth must be 6 n \+ 2 with n of at least 1 \(8, 14, …\), not 57"),
        ({"depth": 2}, "depth must be 6 n"),
        ({"depth": 56.0}, "depth must be 6 n"),
        ({"depth": 58, "bottleneck": True}, r"depth must be 9 n \+ 2 with n .* \(11, 20, …\)"),
        ({"bottleneck": "yes"}, "bottleneck must be true or false, not yes"),
    ],
)
def test_a_depth_that_no_such_network_has_is_refused(settings, told):
    with pytest.raises(SettingError, match=told):
        resnet_cifar((3, 32, 32), 10, **{"depth": 56, "bottleneck": False} | settings)
