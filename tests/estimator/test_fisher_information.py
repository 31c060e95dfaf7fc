"""Fisher divergence of classes: closed forms, what a shift does to either form."""

import numpy as np
import pytest
import torch

from mint_cli.errors import SettingError
from mint_cli.estimator.fisher_information import fisher_information


def score(x, y, form="divergence", ridge=1e-12):
    groups = torch.zeros(x.shape[1], dtype=torch.int64)
    arguments = (x.double(), y.double()[:, None], groups, groups[:1], np.random.default_rng(0))
    return float(fisher_information(*arguments, form=form, ridge=ridge).score)


def two(mean, variance):
    """Samples of exactly mean 0 and variance 1, and of the given ones; and their classes."""
    points = torch.tensor([-1.0, 1.0]).repeat(10)
    return torch.cat([points, mean + variance**0.5 * points])[:, None], torch.arange(40) // 20


@pytest.mark.parametrize(("mean", "variance"), [(0, 1), (2, 1), (0, 4), (1.5, 0.25)])
def test_of_two_gaussians_it_is_the_mean_square_of_their_scores_difference(mean, variance):
    wanted = (1 - 1 / variance) ** 2 + (mean / variance) ** 2
    assert score(*two(mean, variance)) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert score(*two(mean, variance), form="published") == pytest.approx(
        wanted, rel=1e-6, abs=1e-9
    )


def test_a_shift_changes_the_published_form_alone():
    x, y = two(1.5, 4.0)
    assert score(x + 3, y) == pytest.approx(score(x, y))
    assert score(x + 3, y, form="published") != pytest.approx(score(x, y), rel=0.1)


def test_channels_are_averaged_and_constant_ones_are_finite():
    x, y = two(2, 1)
    level = torch.cat([x, torch.ones_like(x)], 1)
    assert score(level, y, ridge=1e-6) == pytest.approx(score(x, y) / 2, rel=1e-3)
    assert score(torch.ones(40, 2), y) == 0.0


@pytest.mark.parametrize(("setting", "value"), [("form", "other"), ("ridge", 0.0), ("ridge", -1.0)])
def test_settings_out_of_their_bounds_are_refused(setting, value):
    with pytest.raises(SettingError, match=f"^{setting} must be"):
        score(*two(1, 1), **{setting: value})
