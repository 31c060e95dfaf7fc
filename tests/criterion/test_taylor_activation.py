"""First-order changes of single images' losses, against gradients taken by hand."""

import numpy as np
import pytest
import torch
from channels import filter_cells, two_convolutions
from torch import nn

from mint_cli.criterion.taylor_activation import taylor_activation


@pytest.fixture
def model() -> nn.Module:
    return two_convolutions(seed=1)  # of which no channel is dead


def scored(model, images, **changed):
    settings = {"samples_per_class": 100, "batch_size": 64, "normalise": False} | changed
    cells = filter_cells(model, pixels=(1, 6, 6))
    return taylor_activation(model, cells, images, np.random.default_rng(0), **settings)


def test_it_is_the_mean_of_the_absolute_mean_over_positions_of_every_image(model, images):
    hidden = model[1](model[0](images.pixels.float() / 255))
    logits = model[5](model[4](model[3](model[2](hidden))))
    loss = nn.functional.cross_entropy(logits, images.labels, reduction="sum")
    (slope,) = torch.autograd.grad(loss, [hidden])
    wanted = (slope * hidden).detach().flatten(2).mean(2).abs().mean(0).double()
    torch.testing.assert_close(scored(model, images)["0"].score, wanted, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("batch_size", [300, 7])
def test_batches_do_not_matter(model, images, batch_size):
    found = scored(model, images, batch_size=batch_size)["2"].score
    torch.testing.assert_close(found, scored(model, images)["2"].score, rtol=1e-4, atol=1e-8)


def test_a_channel_that_nothing_reads_scores_zero_and_one_of_two_halves_the_mean(model, images):
    with torch.no_grad():
        model[2].weight[:, 1] = 0.0
    estimate = scored(model, images)["0"]
    assert estimate.score[1] == 0 and (estimate.score[[0, 2, 3]] > 0).all()
    torch.testing.assert_close(estimate.score, sum(estimate.halves) / 2)
    assert float(scored(model, images, normalise=True)["0"].score.norm()) == pytest.approx(1)
