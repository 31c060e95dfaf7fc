"""Mean activations, against those of the maps themselves."""

import numpy as np
import pytest
import torch
from channels import filter_cells
from networks import seeded
from torch import nn

from mint_cli.criterion.activation_mean import activation_mean


@pytest.fixture
def model() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 3, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, 3),
        )
    )


def scored(model, images, **changed):
    settings = {"samples_per_class": 100, "batch_size": 64, "normalise": False} | changed
    cells = filter_cells(model, pixels=(1, 6, 6))
    return activation_mean(model, cells, images, np.random.default_rng(0), **settings)


def maps(model, images):
    """What leaves both ReLUs, (images, channels, positions)."""
    x = images.pixels.float() / 255
    with torch.no_grad():
        first = model[1](model[0](x))
        return {"0": first.flatten(2).double(), "2": model[3](model[2](first)).flatten(2).double()}


def test_it_is_the_mean_over_images_and_positions_after_the_activation(model, images):
    for site, own in maps(model, images).items():
        estimate = scored(model, images)[site]
        torch.testing.assert_close(estimate.score, own.mean((0, 2)), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(estimate.score, sum(estimate.halves) / 2, rtol=1e-5, atol=1e-7)


def test_the_halves_are_of_other_images_and_normalised_scores_have_unit_length(model, images):
    first, second = scored(model, images)["0"].halves
    assert not torch.equal(first, second)
    assert float(scored(model, images, normalise=True)["0"].score.norm()) == pytest.approx(1)
