"""What a layer's error gains when a cell alone goes, all other weights left or re-solved."""

import numpy as np
import pytest
import torch
from networks import block_cells, channel_cells, layers_of, seeded, weight_cells
from torch import nn

from mint_cli.criterion.obd import check, obd, rises
from mint_cli.errors import SettingError
from mint_cli.protocol import Cells, Images
from mint_cli.solver import choice
from mint_cli.solver.equations import Normal
from mint_cli.solver.rows import Calibration

SETTINGS = {
    "images": 200,
    "positions": 16,
    "measured": 0.5,
    "joint": 0.9,
    "ridge": 1e-3,
    "batch_size": 50,
}
CHILD, PARENT = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 2])  # blocks of unequal sizes


@pytest.fixture
def problem():
    """Gram, metric and the solution (3, 6) of a random least-squares problem."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    outputs = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    return rows.T @ rows / 40, outputs @ outputs.T + torch.eye(3), weight


def layer_of(gram, metric, weight):
    zeros = torch.zeros(6, dtype=torch.float64)
    equations = Normal(gram, gram @ weight.T, zeros, torch.zeros(3), torch.zeros(3))
    return choice.cut(equations, metric, CHILD, PARENT)


def loss(gram, metric, change):
    """Error that the metric sees when the solution is changed."""
    return (metric * (change @ gram @ change.T)).sum()


def test_with_the_other_weights_left_it_is_the_error_of_the_cells_weights(problem):
    gram, metric, weight = problem
    found = rises(layer_of(*problem), weight, resolved=False)
    for c in range(2):
        for p in range(3):
            change = torch.zeros_like(weight)
            cell = (CHILD == c)[:, None] & (PARENT == p)[None]
            change[cell] = weight[cell]
            torch.testing.assert_close(found[c, p], loss(gram, metric, change), rtol=1e-5, atol=0)


def test_with_the_other_weights_re_solved_it_is_the_least_error_without_the_cell(problem):
    gram, metric, weight = problem
    found = rises(layer_of(*problem), weight, resolved=True)
    for c in range(2):
        for p in range(3):
            kept, own, change = PARENT != p, CHILD == c, torch.zeros_like(weight)
            best = torch.linalg.solve(gram[kept][:, kept], (gram @ weight[own].T)[kept]).T
            anew = torch.zeros_like(weight[own])
            anew[:, kept] = best
            change[own] = weight[own] - anew
            torch.testing.assert_close(found[c, p], loss(gram, metric, change), rtol=1e-4, atol=0)


@pytest.fixture
def model() -> nn.Module:
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(216, 3),
        )
    )
    with torch.no_grad():
        network[2].weight[:, 1] = 0.0  # nothing listens to channel 1
        network[0].weight[3:5] = network[0].weight[3].abs()  # channels 3 and 4 say the same
        network[0].bias[3:5] = -0.5
    return network


@pytest.fixture
def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(200) % 3)


def scored(model, images, cells, resolved, **changed):
    settings = {"calibration": Calibration(**SETTINGS | changed), "resolved": resolved}
    return obd(model, cells, images, np.random.default_rng(0), **settings)


def test_of_two_twins_either_can_be_spared_only_where_the_other_may_answer(model, images):
    cells = block_cells(model, "2")
    left, resolved = (scored(model, images, cells, r)["2"].score for r in (False, True))
    assert (left[:, 1] == 0).all() and (resolved[:, 1] == 0).all()
    assert (resolved[:, [3, 4]] < 0.05 * left[:, [3, 4]]).all()
    assert (resolved[:, [0, 2, 5]] > 0.05 * left[:, [0, 2, 5]]).all()


@pytest.mark.parametrize("resolved", [False, True])
def test_scores_are_in_squared_logits_so_that_they_compare_layers(model, images, resolved):
    cells = block_cells(model, "0", "2")
    before = scored(model, images, cells, resolved)
    with torch.no_grad():
        model[5].weight *= 2
    for name, estimate in scored(model, images, cells, resolved).items():
        wanted = 4 * before[name].score
        torch.testing.assert_close(estimate.score, wanted, rtol=1e-4, atol=1e-9)


def test_scores_are_per_weight_and_shaped_as_their_site(model, images):
    single = scored(model, images, weight_cells(model, "0"), False)["0"].score
    assert single.shape == (6, 1, 3, 3)
    rows = scored(model, images, block_cells(model, "0"), False, joint=0.0)["0"].score
    whole = scored(model, images, block_cells(model, "0", child=1), False, joint=0.0)["0"].score
    torch.testing.assert_close(54 * whole[0, 0], 9 * rows.sum())  # outputs alone: errors add up


def test_more_images_than_there_are_and_fewer_rows_than_inputs_are_refused(model):
    def checked(count, **changed):
        calibration = Calibration(**SETTINGS | changed)
        labels = torch.zeros(count)
        cells = block_cells(model, "0", "2")
        check(layers_of(model), cells, labels, calibration=calibration, resolved=True)

    checked(200)
    with pytest.raises(SettingError, match="^calibration.images must lie between 1 and 150"):
        checked(150)
    with pytest.raises(SettingError, match="calibration.images must be at least 54, not 10; .* 2 "):
        checked(200, images=10, positions=1)


@pytest.mark.parametrize("resolved", [False, True])
def test_a_whole_channel_is_what_all_its_readers_would_lose_and_costs_by_its_weights(
    model, images, resolved
):
    """One reader judges them as blocks of all its outputs."""
    found = scored(model, images, channel_cells(model), resolved)
    alone = scored(model, images, block_cells(model, "2", "5", child=1), resolved)["2"].score[0]
    weights = {"made": 9, "read": 6 * 9}
    torch.testing.assert_close(found["0"].score * sum(weights.values()), alone * weights["read"])
    assert found["0"].score[1] == 0 and found["2"].score.shape == (6,)


def test_whole_units_are_refused(model):
    cells = {"units": Cells((1,), {"0.weight": torch.zeros(6, dtype=torch.int32)}, names=("0",))}
    with pytest.raises(SettingError, match="^granularity must be weights, blocks or filters"):
        settings = {"calibration": Calibration(**SETTINGS), "resolved": True}
        check(layers_of(model), cells, torch.arange(300) % 3, **settings)
