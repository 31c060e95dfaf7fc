"""Squared first-order changes by parameters, against gradients taken by hand."""

import numpy as np
import pytest
import torch
from channels import NETWORKS, filter_cells, two_convolutions
from torch import nn

from mint_cli.criterion.taylor_weight import gate, taylor_weight
from mint_cli.network import maps
from mint_cli.protocol import Images


@pytest.fixture
def model() -> nn.Module:
    return two_convolutions()


def scored(model, images, pixels=(1, 6, 6), **changed):
    settings = {"samples_per_class": 100, "batch_size": 300, "normalise": False} | changed
    cells = filter_cells(model, pixels=pixels)
    return taylor_weight(model, cells, images, np.random.default_rng(0), **settings)


def alike(images: Images) -> Images:
    """Ten times one image: both halves and all batches see the same gradient."""
    return Images(images.pixels[:1].repeat(10, 1, 1, 1), images.labels[:1].repeat(10))


def test_without_norms_it_is_the_square_of_gradient_times_weights_and_biases(model, images):
    same = alike(images)
    loss = nn.functional.cross_entropy(model(same.pixels.float() / 255), same.labels)
    weight, bias = model[0].weight, model[0].bias
    here, there = torch.autograd.grad(loss, [weight, bias])
    wanted = ((here * weight).sum((1, 2, 3)) + there * bias).square().detach().double()
    found = scored(model, same, samples_per_class=10)["0"].score
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-12)


def test_through_relu_it_is_the_square_of_the_change_by_activations_summed_over_positions(
    model, images
):
    same = alike(images)
    cells = filter_cells(model, pixels=(1, 6, 6))
    change = maps.changes(model, cells, same.pixels[:1].float() / 255, same.labels[:1])["0"][0] * 36
    found = scored(model, same, samples_per_class=10)["0"].score
    torch.testing.assert_close(found, change.square(), rtol=1e-3, atol=1e-12)


def test_batches_are_squared_before_they_are_averaged(model, images):
    together, alone = (scored(model, images, batch_size=b)["0"].score for b in (300, 1))
    assert (alone > together).all()


def test_where_there_are_batch_norms_their_factors_and_biases_are_meant():
    model = NETWORKS["sequential"]()
    found = gate(model, filter_cells(model)["first"])
    assert set(found.labels) == {"norm.weight", "norm.bias"}
    own = gate(model, filter_cells(model)["last"])
    assert set(own.labels) == {"last.weight", "last.bias"}


def test_frozen_parameters_score_as_others_do_and_stay_frozen(model, images):
    wanted = scored(model, images)["0"].score
    model.requires_grad_(False)
    assert torch.equal(scored(model, images)["0"].score, wanted)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
