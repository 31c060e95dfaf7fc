"""What a stage starts from, and what it tells its user beside its result."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch

from mint_cli import network, stage
from mint_cli.data.images import take
from mint_cli.model.mlp import mlp
from mint_cli.errors import DataError
from mint_cli.protocol import Splits


@pytest.fixture
def model():
    torch.manual_seed(0)
    return network.normalise_inputs(mlp((1, 6, 6), 3, hidden=[20, 10], dropout=0.1), (0.5,), (1.0,))


def test_every_seed_has_initial_weights_of_its_own_and_the_same_each_time(images):
    splits = Splits(images, images, images, 3, (0.5,), (1.0,))
    data = stage.Data(lambda root: splits, Path())

    def weights(seed: int) -> torch.Tensor:
        return stage.Network(data, partial(mlp, hidden=[20, 10], dropout=0.1), seed).build().fc1.weight

    assert torch.equal(weights(0), weights(0))
    assert all(not torch.equal(weights(0), weights(seed)) for seed in (1, 2, 7))


def test_a_network_whose_outputs_overflow_is_told_before_anything_is_written(model, images, context):
    with torch.no_grad():
        model.get_submodule("fc2").weight.fill_(float("nan"))
    splits = Splits(images, take(images, torch.arange(0)), images, 3, (0.5,), (1.0,))
    with pytest.raises(DataError, match="the loss on the test images is nan"):
        stage.measured(model, splits, context)


def keep(out: int, entering: int, rows, columns) -> torch.Tensor:
    mask = torch.zeros(out, entering, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(("passed_on", "told"), [(3, False), (4, True)])
def test_a_pruning_that_cuts_every_path_is_told_and_one_that_leaves_a_single_path_is_not(model, images, caplog, passed_on, told):
    with torch.no_grad():
        model.get_submodule("fc1").weight.abs_()  # alive on every image
        model.get_submodule("fc1").bias.fill_(20.0)
    network.apply_masks(model, {"fc1": keep(20, 36, 3, slice(None)), "fc2": keep(10, 20, slice(None), passed_on)})
    with caplog.at_level(logging.WARNING):
        stage.warn_of_collapse(model.eval(), images)
    assert ("cut every path" in caplog.text) is told


@pytest.mark.parametrize(("agreement", "told"), [(0.29, True), (0.31, False), (None, False)])
def test_a_ranking_of_which_two_halves_hardly_agree_is_told_with_its_layers(caplog, agreement, told):
    with caplog.at_level(logging.WARNING):
        stage.warn_of_noise({"fc1": {"agreement": 0.9}, "fc2": {"agreement": agreement}})
    assert ("mostly noise" in caplog.text and "fc2" in caplog.text and "fc1" not in caplog.text) is told
