"""Elimination as a criterion: what carries nothing scores least, scores compare layers, bad settings are refused."""

import numpy as np
import pytest
import torch
from torch import nn

from mint_cli.criterion.elimination import check, elimination
from mint_cli.errors import SettingError
from mint_cli.protocol import Images

SETTINGS = {
    "calibration_images": 200,
    "positions": 16,
    "measured": 0.5,
    "joint": 0.9,
    "ridge": 1e-3,
    "batch_size": 50,
    "depth": 100,
    "child_groups": None,
    "parent_groups": None,
}


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
    with torch.no_grad():
        network[2].weight[:, 1] = 0.0  # nothing listens to channel 1
        network[0].weight[3:5] = network[0].weight[3].abs()  # channels 3 and 4 say the same
        network[0].bias[3:5] = -0.5
    return network.eval()


@pytest.fixture
def images() -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(200) % 3)


def scored(model, images, **changed):
    return elimination(model, ["0", "2"], images, np.random.default_rng(0), **SETTINGS | changed)


def test_a_channel_that_nothing_listens_to_and_one_of_two_twins_are_worth_nothing(model, images):
    score = scored(model, images)["2"].score
    for row in score:
        lesser, greater = row[[3, 4]].sort().values
        assert row[1] < 0.01 * row.mean() and lesser < 0.05 * greater


def test_scores_are_in_squared_logits_so_that_they_compare_layers(model, images):
    before = scored(model, images)
    with torch.no_grad():
        model[5].weight *= 2
    for name, estimate in scored(model, images).items():
        torch.testing.assert_close(estimate.score, 4 * before[name].score, rtol=1e-4, atol=1e-9)
        assert (estimate.score >= 0).all()


def test_below_the_depth_blocks_score_nothing_and_groups_are_scored_whole(model, images):
    score = scored(model, images, depth=36, child_groups={"default": 2}, parent_groups={"default": 6, "0": 1})["2"].score
    assert score.shape == (2, 6)
    assert ((score == 0).sum(1) >= 2).all() and ((score > 0).sum(1) >= 2).all()


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(SettingError, match="depth must be at least 1, not 0"):
        check({"0": (6, 1, 9, 64)}, torch.zeros(300), **SETTINGS | {"depth": 0})


def test_fewer_rows_than_inputs_are_refused_with_the_images_that_the_worst_layer_needs():
    shapes = {"early": (8, 400, 9, 4), "late": (8, 600, 9, 4)}
    with pytest.raises(SettingError, match=r"at least 1350, not 200: layer late is solved for 5400 unknowns .* has only 800 rows"):
        check(shapes, torch.zeros(300), **SETTINGS)
    check(shapes, torch.zeros(1350), **SETTINGS | {"calibration_images": 1350})
