"""Shares of activations above 0, against those of the maps themselves."""

import numpy as np
import pytest
import torch
from channels import filter_cells, rectified, two_convolutions
from networks import seeded
from torch import nn

from mint_cli.criterion.apoz import apoz
from mint_cli.errors import DataError


@pytest.fixture
def model() -> nn.Module:
    return two_convolutions()


def scored(model, images, **changed):
    settings = {"samples_per_class": 100, "batch_size": 64, "normalise": False} | changed
    cells = filter_cells(model, pixels=(1, 6, 6))
    return apoz(model, cells, images, np.random.default_rng(0), **settings)


def test_it_is_one_minus_the_share_of_zeros(model, images):
    for site, own in rectified(model, images).items():
        zeros = (own == 0).double().mean((0, 2))
        torch.testing.assert_close(scored(model, images)[site].score, 1 - zeros, rtol=1e-6, atol=0)


def test_activations_below_zero_are_refused_by_the_layer_that_reads_them(images):
    layers = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)]
    with pytest.raises(DataError, match="layer 3 reads negative activations"):
        scored(seeded(lambda: nn.Sequential(*layers)), images)
