"""Mean absolute weight of a cell at any granularity."""

import numpy as np
import pytest
import torch
from networks import block_cells, weight_cells

from mint_cli.criterion.l1 import l1
from mint_cli.model.lenet5 import lenet5
from mint_cli.protocol import Cells

GREY = (1, 28, 28)


@pytest.fixture
def model():
    return lenet5(GREY, 10)


def scored(model, cells, normalise=False):
    return l1(model, cells, None, np.random.default_rng(0), normalise=normalise)


@pytest.mark.parametrize("name", ["conv2", "fc1"])
def test_a_score_is_the_mean_absolute_weight_of_its_block(model, name):
    cells = block_cells(model, name, child=5, parent=3, pixels=GREY)
    weight = model.get_submodule(name).weight.detach().abs()
    labels, score = cells[name].labels[f"{name}.weight"], scored(model, cells)[name].score
    assert score.shape == (5, 3)
    for cell in range(15):
        mean = weight[labels == cell].double().mean()
        torch.testing.assert_close(score.flatten()[cell], mean, rtol=1e-6, atol=0)


def test_single_weights_score_their_absolute_values(model):
    score = scored(model, weight_cells(model, "conv2", pixels=GREY))["conv2"].score
    assert torch.equal(score, model.conv2.weight.detach().abs().double())


def test_a_cell_of_several_weights_scores_the_mean_of_all_its_elements_biases_left_out(model):
    rows = torch.arange(6, dtype=torch.int32)
    labels = {"conv1.weight": rows, "conv1.bias": rows, "conv2.weight": rows.expand(16, 6)}
    score = scored(model, {"site": Cells((6,), labels)})["site"].score
    own = [model.conv1.weight[4], model.conv2.weight[:, 4]]
    mean = torch.cat([p.detach().abs().double().flatten() for p in own]).mean()
    torch.testing.assert_close(score[4], mean)


def test_normalised_scores_of_a_site_have_unit_root_sum_of_squares(model):
    cells = block_cells(model, "fc1", child=5, parent=3, pixels=GREY)
    plain, normalised = (scored(model, cells, n)["fc1"].score for n in (False, True))
    assert float(normalised.square().sum()) == pytest.approx(1)
    torch.testing.assert_close(normalised / plain, (1 / plain.norm()).expand(5, 3))
