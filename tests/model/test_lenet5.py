import pytest
import torch

from mint_cli.errors import DataError
from mint_cli.model.lenet5 import lenet5
from mint_cli.network.layers import weight_counts


def test_it_has_the_weights_of_lenet5():
    counts = {"conv1": 150, "conv2": 2400, "fc1": 48000, "fc2": 10080, "fc3": 840}
    wanted = {f"{name}.weight": count for name, count in counts.items()}
    assert weight_counts(lenet5((1, 28, 28), 10)) == wanted


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 12, 12)])
def test_it_maps_images_of_any_size_from_12_on_to_logits(shape):
    assert lenet5(shape, 7)(torch.zeros(2, *shape)).shape == (2, 7)


def test_smaller_images_are_refused_with_the_bound():
    with pytest.raises(DataError, match="12×12 pixels, not 8×8"):
        lenet5((1, 8, 8), 10)
