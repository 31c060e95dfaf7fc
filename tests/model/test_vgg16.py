"""VGG16: the published counts, the names of its layers."""

import pytest
import torch

from mint_cli.errors import DataError
from mint_cli.model.vgg16 import vgg16
from mint_cli.network.layers import weight_counts


def test_it_has_the_published_number_of_weights_layer_by_layer():
    counts = weight_counts(vgg16((3, 32, 32), 10))
    assert sum(counts.values()) == 14_977_728
    assert list(counts) == [f"conv{i}.weight" for i in range(1, 14)] + [
        "linear1.weight",
        "linear3.weight",
    ]
    assert counts["conv5.weight"] == 294_912 and counts["conv13.weight"] == 2_359_296
    assert counts["linear1.weight"] == 262_144


def test_it_takes_images_to_one_logit_a_class():
    assert vgg16((1, 32, 32), 7).eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_images_that_five_poolings_do_not_leave_one_pixel_of_are_refused():
    with pytest.raises(DataError, match="32×32 to 63×63 pixels, not 28×28"):
        vgg16((1, 28, 28), 10)
