import numpy as np
import pytest
import torch

from mint_cli.criterion.l1 import check, l1
from mint_cli.model.lenet5 import lenet5
from mint_cli.network.layers import weighted_layers
from mint_cli.errors import SettingError


@pytest.mark.parametrize("name", ["conv2", "fc1"])
def test_a_score_is_the_mean_absolute_weight_of_its_block(images, name):
    model = lenet5((1, 28, 28), 10)
    estimate = l1(model, [name], images, np.random.default_rng(0), child_groups=5, parent_groups=3, normalise=False)[name]
    weight = weighted_layers(model)[name].weight.detach().abs()
    for c in range(5):
        for p in range(3):
            block = weight[estimate.child_groups == c][:, estimate.parent_groups == p]
            torch.testing.assert_close(estimate.score[c, p], block.double().mean(), rtol=1e-6, atol=0)


def test_normalised_scores_of_a_layer_have_unit_root_sum_of_squares(images):
    score = l1(lenet5((1, 28, 28), 10), ["fc1"], images, None, child_groups=5, parent_groups=3, normalise=True)["fc1"].score
    assert float(score.square().sum()) == pytest.approx(1)


def test_groups_above_the_channels_are_refused_before_any_work():
    with pytest.raises(SettingError, match="between 1 and 6, the channels of layer conv1, not 7"):
        check({"conv1": (6, 1, 25, 576)}, torch.zeros(1), child_groups=7, parent_groups=1, normalise=False)
