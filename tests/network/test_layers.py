import numpy as np
import pytest
import torch
from torch import nn

from mint_cli import network
from mint_cli.model.lenet5 import lenet5
from mint_cli.model.mlp import mlp
from mint_cli.errors import SettingError
from mint_cli.protocol import Images


@pytest.fixture
def grey() -> Images:
    return Images(torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8), torch.arange(40) % 10)


@pytest.fixture
def lenet():
    return network.normalise_inputs(lenet5((1, 28, 28), 10), (0.5,), (0.25,)).eval()


def test_activations_are_each_layers_own_input_and_output_of_the_same_images(lenet, grey):
    index = torch.tensor([3, 1, 7])
    parent, child = network.activations(lenet, ["conv2", "fc1"], grey, index, batch_size=2)["conv2"]
    x = (grey.pixels[index].float() / 255 - 0.5) / 0.25
    entering = lenet.pool1(lenet.relu1(lenet.conv1(x)))
    torch.testing.assert_close(parent, entering.mean((2, 3)).detach())
    torch.testing.assert_close(child, lenet.conv2(entering).mean((2, 3)).detach())


def test_patches_times_weights_give_the_output_at_their_position(lenet, grey):
    sampled = network.patches(lenet, ["conv1", "conv2", "fc2"], grey, torch.arange(20), np.random.default_rng(0), batch_size=8)
    for name, (parent, child) in sampled.items():
        module = network.weighted_layers(lenet)[name]
        torch.testing.assert_close(parent @ module.weight.detach().flatten(1).T + module.bias.detach(), child, atol=1e-4, rtol=1e-4)


def test_masks_zero_exactly_the_weights_they_name(lenet):
    mask = torch.rand(16, 6) < 0.5
    before = lenet.conv2.weight.detach().clone()
    network.apply_masks(lenet, {"conv2": mask})
    assert torch.equal(lenet.conv2.weight[mask], before[mask]) and (lenet.conv2.weight[~mask] == 0).all()


def test_normalisation_travels_with_the_state_of_the_network(lenet, grey):
    other = network.normalise_inputs(lenet5((1, 28, 28), 10), (0.0,), (1.0,)).eval()
    other.load_state_dict(lenet.state_dict())
    x = grey.pixels.float() / 255
    assert torch.equal(lenet(x), other(x))


def test_skipped_layers_are_left_out_and_unknown_ones_refused_with_the_names_there_are():
    model = mlp((1, 28, 28), 10, hidden=[500, 300], dropout=0.2)
    assert network.prunable_layers(model, ["fc1", "fc3"]) == ["fc2"]
    with pytest.raises(SettingError, match="fc1, fc2, fc3.*not fc4"):
        network.prunable_layers(model, ["fc4"])


def test_reestimated_statistics_are_those_of_the_images():
    model = network.normalise_inputs(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), (0.0,), (1.0,)).eval()
    grey = Images(torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8), torch.zeros(60, dtype=torch.long))
    network.reestimate_batch_norm(model, grey, 60, np.random.default_rng(0), batch_size=25)
    out = model[0](grey.pixels.float() / 255)
    torch.testing.assert_close(model[1].running_mean, out.mean((0, 2, 3)).detach(), atol=1e-5, rtol=1e-4)
    assert not model[1].training and model[1].momentum == 0.1


def test_layer_shapes_say_what_a_layer_is_solved_for_and_how_often_it_is_seen():
    model = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.Flatten(), nn.Linear(6 * 16, 10))
    assert network.layer_shapes(model, ["2", "0"], (3, 8, 8)) == {"2": (10, 96, 1, 1), "0": (6, 3, 25, 16)}
