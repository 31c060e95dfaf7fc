"""Weight times the norm of its input."""

import numpy as np
import pytest
import torch
from networks import block_cells, layers_of, seeded, weight_cells
from torch import nn

from mint_cli.criterion.weight_input import check, weight_input
from mint_cli.errors import SettingError
from mint_cli.network.layers import record
from mint_cli.protocol import Cells

PIXELS = (1, 6, 6)


@pytest.fixture
def model() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 3, 3, padding=1, stride=2),
            nn.Flatten(),
            nn.Linear(27, 3),
        )
    )


def scored(model, images, cells, samples_per_class=100, batch_size=64, seed=0):
    rng = np.random.default_rng(seed)
    settings = {"samples_per_class": samples_per_class, "batch_size": batch_size}
    return weight_input(model, cells, images, rng, **settings)


def test_of_a_linear_layer_it_is_the_weight_times_the_root_mean_square_of_its_input(model, images):
    score = scored(model, images, weight_cells(model, "4", pixels=PIXELS))["4"].score
    with torch.no_grad():
        entering = model[:4](images.pixels.float() / 255).double()
    wanted = model[4].weight.detach().abs().double() * entering.square().mean(0).sqrt()
    torch.testing.assert_close(score, wanted, rtol=1e-5, atol=0)


def test_of_a_convolution_the_input_is_what_every_weight_meets_border_and_stride_included(
    model, images
):
    score = scored(model, images, weight_cells(model, "2", pixels=PIXELS))["2"].score
    with torch.no_grad():
        entering = nn.functional.pad(model[:2](images.pixels.float() / 255), (1, 1, 1, 1)).double()
    for row in range(3):
        for column in range(3):
            met = entering[:, :, row : row + 6 : 2, column : column + 6 : 2]
            norm = met.square().mean((0, 2, 3)).sqrt()
            wanted = model[2].weight.detach()[:, :, row, column].abs().double() * norm
            torch.testing.assert_close(score[:, :, row, column], wanted, rtol=1e-5, atol=0)


def test_a_block_scores_the_mean_of_its_weights(model, images):
    single = scored(model, images, weight_cells(model, "2", pixels=PIXELS))["2"].score
    block = scored(model, images, block_cells(model, "2", child=1, parent=2, pixels=PIXELS))["2"]
    wanted = torch.stack([single[:, :2].mean(), single[:, 2:].mean()])[None]
    torch.testing.assert_close(block.score, wanted)


def test_batches_change_nothing_and_the_generator_chooses_the_images(model, images):
    cells = weight_cells(model, "2", pixels=PIXELS)
    whole, parts = (scored(model, images, cells, batch_size=b)["2"].score for b in (300, 7))
    torch.testing.assert_close(whole, parts)
    first, other = (scored(model, images, cells, 5, seed=s)["2"].score for s in (0, 1))
    assert not torch.allclose(first, other, rtol=1e-3)


def checked(layers, cells, samples_per_class):
    labels = torch.arange(300) % 3
    check(layers, cells, labels, samples_per_class=samples_per_class, batch_size=10)


def test_more_samples_than_images_and_layers_whose_inputs_cannot_be_told_are_refused(model):
    checked(layers_of(model, PIXELS), weight_cells(model, pixels=PIXELS), 100)
    with pytest.raises(SettingError, match="samples_per_class must lie between 1 and 100, .*101"):
        checked(layers_of(model, PIXELS), weight_cells(model, pixels=PIXELS), 101)
    grouped = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(SettingError, match="^skip must leave alone 1.* by its inputs: .* grouped"):
        checked(record(grouped, PIXELS), block_cells(grouped, pixels=PIXELS), 10)


def test_cells_that_span_layers_are_refused(model):
    rows = torch.arange(4, dtype=torch.int32)
    cells = {"0": Cells((4,), {"0.weight": rows, "2.weight": rows.expand(3, 4)})}
    with pytest.raises(SettingError, match="^granularity must have cells of one layer here"):
        checked(layers_of(model, PIXELS), cells, 10)
