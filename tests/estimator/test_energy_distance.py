"""Energy distance of classes: closed forms, 0 for the same samples, invariances."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf

from mint_cli.estimator.energy_distance import energy_distance


def score(x, y, per_dimension=False):
    groups = torch.zeros(x.shape[1], dtype=torch.int64)
    arguments = (x.double(), y.double()[:, None], groups, groups[:1], np.random.default_rng(0))
    return float(energy_distance(*arguments, per_dimension=per_dimension).score)


def test_two_points_have_twice_their_distance():
    y = torch.arange(8) % 2
    assert score(torch.stack([3.0 * y, 4.0 * y], 1), y) == pytest.approx(10)
    assert score(torch.stack([3.0 * y, 4.0 * y], 1), y, True) == pytest.approx(10 / 2**0.5)


def test_shifted_gaussians_have_what_their_mean_distances_say():
    generator = torch.Generator().manual_seed(0)
    x, y, shift = torch.randn(3000, 1, generator=generator), torch.arange(3000) % 2, 1.5
    between = 2 / math.pi**0.5 * math.exp(-(shift**2) / 4) + shift * erf(shift / 2)
    wanted = 2 * between - 2 * 2 / math.pi**0.5
    assert score(x + shift * y[:, None], y) == pytest.approx(wanted, rel=0.07)


def test_the_same_samples_in_both_classes_are_0_apart_and_a_scale_comes_through():
    half = torch.rand(20, 3)
    x, y = half.repeat(2, 1), torch.arange(40) // 20
    assert score(x, y) == pytest.approx(0, abs=1e-12)
    x = x + y[:, None]
    assert score(5 * x + 2, y) == pytest.approx(5 * score(x, y))


def test_of_several_classes_the_farthest_from_the_largest_counts():
    y = torch.tensor([0] * 5 + [1] * 9 + [2] * 4)
    x = torch.tensor([0.0] * 5 + [1.0] * 9 + [7.0] * 4)[:, None]
    assert score(x, y) == pytest.approx(12)
