"""LAMP: equation 4 by hand, and the same quotas for blocks of any size as for their weights."""

import numpy as np
import pytest
import torch
from networks import block_cells, weight_cells
from torch import nn

from mint_cli.allocation.capped_quota import capped_quota
from mint_cli.criterion.l1 import l1
from mint_cli.criterion.lamp import lamp, share_of_larger
from mint_cli.model.lenet5 import lenet5
from mint_cli.network.cells import sizes

GREY = (1, 28, 28)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lenet5(GREY, 10)


def scored(model, cells):
    return {s: e.score for s, e in lamp(model, cells, None, np.random.default_rng(0)).items()}


def test_a_score_is_the_mean_over_the_sum_of_all_not_smaller():
    means = torch.tensor([[9.0, 1.0], [4.0, 4.0]], dtype=torch.float64)
    wanted = torch.tensor([[9 / 9, 1 / 18], [4 / 17, 4 / 13]], dtype=torch.float64)
    torch.testing.assert_close(share_of_larger(means, means), wanted)
    sums = torch.tensor([[18.0, 5.0], [4.0, 8.0]], dtype=torch.float64)  # cells of 2, 5, 1 and 2
    wanted = torch.tensor([[9 / 18, 1 / 35], [4 / 30, 4 / 26]], dtype=torch.float64)
    torch.testing.assert_close(share_of_larger(means, sums), wanted)


def test_cells_of_zeros_score_zero():
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    assert (share_of_larger(zeros, zeros) == 0).all()


def test_single_weights_score_by_equation_4_written_out(model):
    score = scored(model, weight_cells(model, "conv1", "fc3", pixels=GREY))
    for name in ("conv1", "fc3"):
        weight = model.get_submodule(name).weight.detach().double()
        squares = weight.flatten().square()
        for i in range(0, len(squares), 37):
            wanted = squares[i] / squares[squares >= squares[i]].sum()
            torch.testing.assert_close(score[name].flatten()[i], wanted)
        assert score[name].max() == 1


def test_scores_do_not_depend_on_a_layers_scale(model):
    cells = block_cells(model, "conv2", child=5, parent=3, pixels=GREY)
    before = scored(model, cells)["conv2"]
    with torch.no_grad():
        model.conv2.weight.mul_(8)
    assert torch.equal(before, scored(model, cells)["conv2"])


def test_single_weights_rank_within_a_layer_as_by_l1(model):
    cells = weight_cells(model, "fc3", pixels=GREY)
    magnitude = l1(model, cells, None, None, normalise=False)["fc3"].score
    order = magnitude.flatten().argsort()
    assert torch.equal(scored(model, cells)["fc3"].flatten().argsort(), order)


def test_of_a_block_the_mean_square_counts_and_not_the_mean_magnitude():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(
            torch.tensor([[0.0, 3.0, 2.0, 2.0]])
        )  # means 1.5 and 2, squares 4.5, 4
    score = scored(model, block_cells(model, "1", parent=2, pixels=(1, 2, 2)))["1"]
    torch.testing.assert_close(score, torch.tensor([[4.5 / 9, 4 / 17]], dtype=torch.float64))


@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.9])
def test_the_quotas_of_blocks_are_those_of_their_weights_where_these_are_all_equal(sparsity):
    """Three layers whose blocks hold 9, 24 and 2 weights; as single weights they may be cut
    in two.
    """
    layers = [
        nn.Conv2d(8, 24, 3, padding=1),
        nn.Flatten(),
        nn.Linear(24 * 16, 60),
        nn.Linear(60, 40),
    ]
    model, generator = nn.Sequential(*layers), torch.Generator().manual_seed(0)
    groups = {"default": None, "2": 30}, {"default": None, "2": 32, "3": 30}
    cells = block_cells(model, child=groups[0], parent=groups[1], pixels=(8, 4, 4))
    for name, own in cells.items():
        values = torch.rand(own.shape, generator=generator) * (1 + 3 * int(name))
        weight = model.get_submodule(name).weight
        labels = own.labels[f"{name}.weight"].long()
        laid = values.flatten()[labels].reshape(labels.shape + (1,) * (weight.ndim - 2))
        weight.data.copy_(laid.expand_as(weight))
    removed = {}
    for kind, found in (("blocks", cells), ("weights", weight_cells(model, pixels=(8, 4, 4)))):
        counts = {s: sizes(c, dict(model.named_parameters()), c.labels) for s, c in found.items()}
        wanted = round(sparsity * sum(int(c.sum()) for c in counts.values()))
        kept = capped_quota(scored(model, found), counts, wanted, cap=1.0, caps={})
        removed[kind] = {s: int(counts[s][~own].sum()) for s, own in kept.items()}
    assert removed["blocks"] == pytest.approx(removed["weights"], abs=24)
    assert min(removed["weights"].values()) > 60 and len(set(removed["weights"].values())) == 3
