"""Information between quantised activations and classes, against closed forms."""

import math

import numpy as np
import pytest
import torch
from channels import filter_cells
from networks import seeded
from torch import nn

from mint_cli.criterion.mutual_information import check, information, mutual_information
from mint_cli.errors import SettingError


def test_a_column_that_is_the_class_has_its_entropy_and_one_that_is_constant_none():
    labels = torch.arange(300) % 3
    values = torch.stack([labels.double(), torch.ones(300), -5.0 * labels.double()], 1).double()
    found = information(values, labels, 3)
    torch.testing.assert_close(found, torch.tensor([math.log(3), 0, math.log(3)]).double())


def test_two_bins_of_half_a_class_each_have_what_the_table_of_counts_says():
    labels = torch.tensor([0] * 4 + [1] * 4)
    values = torch.tensor([0, 1, 2, 5, 3, 4, 6, 7]).double()[:, None]  # 3 of 4 on either side
    wanted = math.log(2) - (0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert float(information(values, labels, 2)) == pytest.approx(wanted)


def test_it_does_not_change_with_the_scale_and_bins_hold_as_many_images_each():
    values = torch.from_numpy(np.random.default_rng(0).random((200, 2)))
    labels = torch.arange(200) % 4
    torch.testing.assert_close(information(values, labels, 5), information(values**9, labels, 5))


def test_channels_score_what_their_means_say_of_the_class(images):
    model = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))
    )
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0.0, 1.0  # says nothing
        model[0].weight[1], model[0].bias[1] = 1.0, 0.0
    settings = {"samples_per_class": 100, "batch_size": 64, "bins": 4, "normalise": False}
    cells, rng = filter_cells(model, pixels=(1, 6, 6)), np.random.default_rng(0)
    score = mutual_information(model, cells, images, rng, **settings)["0"].score
    means = (images.pixels.float() / 255).mean((1, 2, 3)).double()[:, None]
    assert score[0] == 0
    torch.testing.assert_close(
        score[1:2], information(means, images.labels, 4), rtol=1e-3, atol=1e-3
    )


def test_a_class_without_images_and_bins_without_are_refused():
    def checked(labels, bins=4):
        settings = {"samples_per_class": 4, "batch_size": 2, "bins": bins, "normalise": False}
        check({}, {}, labels, **settings)

    checked(torch.arange(12) % 3)
    with pytest.raises(SettingError, match="there is none of class 1"):
        checked(torch.tensor([0, 2] * 6))
    with pytest.raises(SettingError, match="^bins must lie between 2 and 6.*not 7"):
        checked(torch.arange(12) % 3, 7)
