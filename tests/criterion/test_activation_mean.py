"""Mean activations, against those of the maps themselves."""

import numpy as np
import pytest
import torch
from channels import filter_cells, rectified, two_convolutions
from torch import nn

from mint_cli.criterion.activation_mean import activation_mean


@pytest.fixture
def model() -> nn.Module:
    return two_convolutions()


def scored(model, images, **changed):
    settings = {"samples_per_class": 100, "batch_size": 64, "normalise": False} | changed
    cells = filter_cells(model, pixels=(1, 6, 6))
    return activation_mean(model, cells, images, np.random.default_rng(0), **settings)


def test_it_is_the_mean_over_images_and_positions_after_the_activation(model, images):
    for site, own in rectified(model, images).items():
        estimate = scored(model, images)[site]
        torch.testing.assert_close(estimate.score, own.mean((0, 2)), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(estimate.score, sum(estimate.halves) / 2, rtol=1e-5, atol=1e-7)


def test_the_halves_are_of_other_images_and_normalised_scores_have_unit_length(model, images):
    first, second = scored(model, images)["0"].halves
    assert not torch.equal(first, second)
    assert float(scored(model, images, normalise=True)["0"].score.norm()) == pytest.approx(1)
