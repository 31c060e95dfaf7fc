"""Information with the class by a mixture: between its bounds, log of the classes, 0,
invariances.
"""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mint_cli.errors import SettingError
from mint_cli.estimator.mixture import mixture

FORMS = ("upper", "lower", "left_out")


def measured(x, y, bandwidth=None, form="left_out", groups=None):
    groups = torch.zeros(x.shape[1], dtype=torch.int64) if groups is None else groups
    settings = {"bandwidth": bandwidth, "form": form}
    one = torch.zeros(1, dtype=torch.int64)
    return mixture(x, y.double()[:, None], groups, one, np.random.default_rng(0), **settings)


def score(*arguments, **settings):
    return float(measured(*arguments, **settings).score)


def true(distance: float) -> float:
    """Information of a fair bit and a Gaussian of variance 1 around ±distance/2, nats."""

    def density(x, centre):
        return math.exp(-((x - centre) ** 2) / 2) / math.sqrt(2 * math.pi)

    def term(x):
        both = [density(x, centre) for centre in (-distance / 2, distance / 2)]
        return sum(p / 2 * math.log(2 * p / sum(both)) for p in both if p > 0)

    return quad(term, -30, 30, limit=200)[0]


def normal(n, d=1, classes=2, apart=0.0, seed=0):
    """Gaussians of variance 1, class c shifted by c · apart along every axis."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + apart * y[:, None], y


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("dimensions", [1, 5])
def test_the_bounds_enclose_the_information_of_classes_of_one_kernel(distance, dimensions):
    y = torch.arange(20) % 2
    x = (y.double()[:, None] * distance / dimensions**0.5).expand(20, dimensions) * 0.1
    low, high = (score(x, y, bandwidth=0.1, form=form) for form in ("lower", "upper"))
    assert low < true(distance) < high
    exact = [-math.log((1 + math.exp(-(distance**2) / part)) / 2) for part in (8, 2)]
    assert (low, high) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0])
def test_samples_of_two_gaussians_have_about_the_information_of_the_gaussians(apart):
    x, y = normal(1200, apart=apart)
    assert score(x, y) == pytest.approx(true(apart), abs=0.04)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [2, 5])
def test_classes_far_apart_have_the_log_of_their_number(form, classes):
    x, y = normal(200, 3, classes, apart=1000.0)
    assert score(x, y, bandwidth=5.0, form=form) == pytest.approx(math.log(classes), abs=1e-6)
    assert score(x, y, form=form) == pytest.approx(math.log(classes), abs=1e-3)


def test_features_independent_of_the_class_have_none_of_it():
    assert score(*normal(600, 20)) == pytest.approx(0, abs=0.02)
    assert score(torch.ones(40, 3), torch.arange(40) % 2) == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_turned_and_shifted_features_have_the_same_information_and_scaled_ones_with_the_bandwidth(
    form,
):
    x, y = normal(200, 4, apart=0.5)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    fixed, free = score(x, y, bandwidth=0.7, form=form), score(x, y, form=form)
    assert score(x @ turn + 3, y, bandwidth=0.7, form=form) == pytest.approx(fixed, abs=1e-9)
    assert score(4 * x, y, bandwidth=2.8, form=form) == pytest.approx(fixed, abs=1e-9)
    assert score(4 * x @ turn, y, form=form) == pytest.approx(free, abs=1e-9)


def test_memory_does_not_grow_with_the_samples_and_blocks_change_nothing(monkeypatch):
    x, y = normal(300, 2, apart=1.0)
    whole = score(x, y, bandwidth=0.5)
    monkeypatch.setattr("mint_cli.estimator.mixture.PAIRS", 1000)
    assert score(x, y, bandwidth=0.5) == pytest.approx(whole, abs=1e-12)


def test_the_published_bandwidth_says_the_entropy_of_the_classes_of_any_wide_features(caplog):
    """0.001 of variance in many dimensions: every kernel sees itself alone, whatever the
    class is.
    """
    x, y = normal(100, 64)
    published = 0.001**0.5
    for form in ("upper", "lower"):
        assert score(x, y, bandwidth=published, form=form) == pytest.approx(math.log(2), abs=1e-9)
    assert "100 % of the samples see no kernel but their own" in caplog.text
    caplog.clear()
    score(*normal(100, 1), bandwidth=published)
    assert not caplog.text


def test_every_group_has_a_score_and_halves_of_its_own():
    x, y = normal(400, 3)
    x[:, 1] += 3 * y
    found = measured(x, y, groups=torch.tensor([0, 1, 2]))
    assert found.score.shape == (3, 1) and all(half.shape == (3, 1) for half in found.halves)
    for table in (found.score, *found.halves):
        assert table[1] > 0.4 and table[[0, 2]].abs().max() < 0.1


@pytest.mark.parametrize("bandwidth", [0, -1.0, float("inf")])
def test_a_bandwidth_that_is_none_is_refused(bandwidth):
    with pytest.raises(SettingError, match="bandwidth must be above 0"):
        measured(*normal(20), bandwidth=bandwidth)


def test_an_unknown_form_is_refused():
    with pytest.raises(
        SettingError, match="form must be one of upper, lower, left_out, not middle"
    ):
        measured(*normal(20), form="middle")
