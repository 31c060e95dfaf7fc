import numpy as np
import pytest
import torch

from mint_cli.criterion.l1 import l1
from mint_cli.criterion.lamp import check, lamp, share_of_larger
from mint_cli.model.lenet5 import lenet5
from mint_cli.network.layers import weighted_layers
from mint_cli.errors import SettingError

GROUPS = {"child_groups": 5, "parent_groups": 3}


def test_a_score_is_the_square_over_the_sum_of_all_squares_not_smaller():
    scores = share_of_larger(torch.tensor([[9.0, 1.0], [4.0, 4.0]], dtype=torch.float64))
    torch.testing.assert_close(scores, torch.tensor([[9 / 9, 1 / 18], [4 / 17, 4 / 13]], dtype=torch.float64))


def test_a_layer_of_zeros_scores_zero():
    assert (share_of_larger(torch.zeros(2, 3, dtype=torch.float64)) == 0).all()


def test_scores_do_not_depend_on_a_layers_scale(images):
    model = lenet5((1, 28, 28), 10)
    before = lamp(model, ["conv2"], images, np.random.default_rng(0), **GROUPS)["conv2"].score
    with torch.no_grad():
        weighted_layers(model)["conv2"].weight.mul_(8)
    assert torch.equal(before, lamp(model, ["conv2"], images, np.random.default_rng(0), **GROUPS)["conv2"].score)


def test_single_weights_rank_within_a_layer_as_by_l1(images):
    model = lenet5((1, 28, 28), 10)
    every = {"child_groups": 10, "parent_groups": 84}
    score = lamp(model, ["fc3"], images, None, **every)["fc3"].score
    assert torch.equal(
        score.flatten().argsort(), l1(model, ["fc3"], images, None, normalise=False, **every)["fc3"].score.flatten().argsort()
    )


def test_the_largest_block_of_every_layer_scores_one(images):
    for estimate in lamp(lenet5((1, 28, 28), 10), ["conv2", "fc1"], images, None, **GROUPS).values():
        assert estimate.score.max() == 1


def test_groups_above_the_channels_are_refused_before_any_work():
    with pytest.raises(SettingError, match="between 1 and 6, the channels of layer conv1, not 7"):
        check({"conv1": (6, 1, 25, 576)}, torch.zeros(1), child_groups=7, parent_groups=1)
