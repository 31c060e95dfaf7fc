import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.model.mlp import mlp
from mint_cli.network.layers import weight_counts


def test_the_mnist_network_of_mint_has_545000_weights_150000_of_them_in_fc2():
    counts = weight_counts(mlp((1, 28, 28), 10, hidden=[500, 300], dropout=0.2))
    assert counts == {"fc1.weight": 392000, "fc2.weight": 150000, "fc3.weight": 3000}
    assert sum(counts.values()) == 545000


def test_it_maps_images_to_logits():
    assert mlp((1, 28, 28), 10, hidden=[20], dropout=0.0)(torch.zeros(2, 1, 28, 28)).shape == (
        2,
        10,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": [0], "dropout": 0.1},
        {"hidden": [], "dropout": 0.1},
        {"hidden": [5], "dropout": 1.0},
    ],
)
def test_impossible_sizes_are_refused(settings):
    with pytest.raises(SettingError, match="hidden|dropout"):
        mlp((1, 28, 28), 10, **settings)
