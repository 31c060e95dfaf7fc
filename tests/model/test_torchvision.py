"""Torchvision's networks by name, refused by name."""

import pytest
import torch

from mint_cli.errors import DataError, SettingError
from mint_cli.model.torchvision import torchvision


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "squeezenet1_1"])
def test_a_network_has_the_classes_of_the_data(name):
    model = torchvision((3, 64, 64), 7, name=name).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(SettingError, match=r"name .*not resnet17; did you mean resnet1"):
        torchvision((3, 32, 32), 10, name="resnet17")


def test_segmentation_networks_are_none():
    with pytest.raises(SettingError, match="classification"):
        torchvision((3, 32, 32), 10, name="fcn_resnet50")


@pytest.mark.parametrize(("name", "shape"), [("resnet18", (1, 32, 32)), ("alexnet", (3, 16, 16))])
def test_images_that_a_network_does_not_take_are_told(name, shape):
    with pytest.raises(DataError, match=f"{name} does not take images"):
        torchvision(shape, 10, name=name)
