"""Standard deviations of activations, against those of the maps themselves."""

import numpy as np
import pytest
import torch
from channels import filter_cells, rectified, two_convolutions
from torch import nn

from mint_cli.criterion.activation_std import activation_std


@pytest.fixture
def model() -> nn.Module:
    return two_convolutions()


def scored(model, images, **changed):
    settings = {"samples_per_class": 100, "batch_size": 64, "normalise": False} | changed
    cells = filter_cells(model, pixels=(1, 6, 6))
    return activation_std(model, cells, images, np.random.default_rng(0), **settings)


def test_it_is_the_deviation_over_images_and_positions_after_the_activation(model, images):
    for site, own in rectified(model, images).items():
        score = scored(model, images)[site].score
        torch.testing.assert_close(score, own.std((0, 2), correction=0), rtol=1e-5, atol=1e-7)


def test_a_large_constant_does_not_hide_a_small_deviation(model, images):
    with torch.no_grad():
        model[0].weight *= 1e-3
        model[0].bias.fill_(100.0)
    wanted = rectified(model, images)["0"].std((0, 2), correction=0)
    torch.testing.assert_close(scored(model, images)["0"].score, wanted, rtol=0.02, atol=0)


def test_a_dead_channel_scores_zero(model, images):
    with torch.no_grad():
        model[0].bias[1] = -100.0
    assert scored(model, images)["0"].score[1] == 0
