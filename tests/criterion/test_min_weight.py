"""Mean squared weights of what makes a channel."""

import numpy as np
import pytest
import torch
from channels import NETWORKS, filter_cells
from networks import block_cells

from mint_cli.criterion.min_weight import check, min_weight
from mint_cli.errors import SettingError


def scored(model, cells, normalise=False):
    return min_weight(model, cells, None, np.random.default_rng(0), normalise=normalise)


def test_it_is_the_mean_square_of_the_rows_that_make_a_channel():
    model = NETWORKS["sequential"]()
    found = scored(model, filter_cells(model))
    wanted = model.first.weight.detach().double().square().mean((1, 2, 3))
    torch.testing.assert_close(found["first"].score, wanted)


def test_layers_that_make_one_channel_together_are_averaged_weight_by_weight():
    model = NETWORKS["residual"]()
    (score,) = [
        e.score for site, e in scored(model, filter_cells(model)).items() if site != "inner"
    ]
    rows = [
        layer.weight.detach().double().square().flatten(1) for layer in (model.stem, model.outer)
    ]
    torch.testing.assert_close(score, torch.cat(rows, 1).mean(1))


def test_normalised_scores_have_unit_length():
    model = NETWORKS["sequential"]()
    for estimate in scored(model, filter_cells(model), normalise=True).values():
        assert float(estimate.score.norm()) == pytest.approx(1)


def test_cells_that_are_no_channels_are_refused():
    model = NETWORKS["sequential"]()
    with pytest.raises(SettingError, match="^granularity must be filters"):
        check({}, block_cells(model, pixels=(3, 8, 8)), torch.zeros(3), normalise=False)
