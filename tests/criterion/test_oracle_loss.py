"""Measured changes of the loss, against the network with weights set to 0."""

import numpy as np
import pytest
import torch
from channels import filter_cells, two_convolutions
from torch import nn

from mint_cli.criterion.oracle_loss import oracle_loss


@pytest.fixture
def model() -> nn.Module:
    return two_convolutions()


def scored(model, images, **changed):
    settings = {"samples_per_class": 20, "batch_size": 25, "normalise": False} | changed
    cells = filter_cells(model, pixels=(1, 6, 6))
    return oracle_loss(model, cells, images, np.random.default_rng(0), **settings)


def loss(model, images):
    with torch.no_grad():
        logits = model(images.pixels.float() / 255)
        return float(nn.functional.cross_entropy(logits, images.labels))


def test_it_is_the_loss_without_the_channel_less_the_loss_with_it(model, images):
    found, before = scored(model, images, samples_per_class=100)["0"], loss(model, images)
    for channel in range(4):
        kept = model[2].weight[:, channel].detach().clone()
        model[2].weight.data[:, channel] = 0.0
        wanted = loss(model, images) - before
        model[2].weight.data[:, channel] = kept
        assert float(found.score[channel]) == pytest.approx(wanted, abs=1e-6)


def test_the_score_is_the_mean_of_its_halves_which_see_other_images(model, images):
    estimate = scored(model, images)["2"]
    torch.testing.assert_close(estimate.score, sum(estimate.halves) / 2)
    assert not torch.equal(*estimate.halves)


def test_a_channel_that_nothing_reads_changes_nothing(model, images):
    with torch.no_grad():
        model[2].weight[:, 1] = 0.0
    assert abs(float(scored(model, images)["0"].score[1])) < 1e-7
