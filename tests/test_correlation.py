"""Rank correlations against scipy's, and their intervals."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from mint_cli.correlation import correlations, spearman

RNG = np.random.default_rng


@pytest.fixture
def pair():
    rng = RNG(0)
    reference = {"a": rng.random(30), "b": 100 * rng.random(20)}
    return {site: own + rng.random(len(own)) for site, own in reference.items()}, reference


def test_it_is_scipy_s_also_with_ties():
    rng = RNG(1)
    first, second = rng.integers(0, 6, (5, 40)), rng.random((5, 40))
    wanted = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(spearman(first, second), wanted)


def test_a_constant_side_has_no_correlation():
    assert np.isnan(spearman(np.ones((1, 4)), np.arange(4.0)[None])).all()


def test_the_three_ways_are_those_of_their_names(pair):
    scores, reference = pair
    found = correlations(scores, reference, 50, RNG(0))
    inside = [spearmanr(scores[site], reference[site]).statistic for site in scores]
    joined = [np.concatenate(list(side.values())) for side in pair]
    scaled = np.concatenate([own / np.linalg.norm(own) for own in scores.values()])
    assert found["per_layer"].value == pytest.approx(np.mean(inside))
    assert found["all_layers"].value == pytest.approx(spearmanr(*joined).statistic)
    assert found["normalised"].value == pytest.approx(spearmanr(scaled, joined[1]).statistic)


def test_an_interval_holds_the_value_and_is_narrower_with_more_cells():
    def width(count):
        rng = RNG(2)
        truth = rng.random(count)
        own = correlations({"a": truth + rng.random(count)}, {"a": truth}, 200, RNG(0))[
            "all_layers"
        ]
        assert own.low < own.value < own.high
        return own.high - own.low

    assert width(400) < 0.5 * width(40)


def test_a_site_that_is_constant_is_left_out_and_not_counted(pair):
    scores, reference = pair
    found = correlations({**scores, "b": np.ones(20)}, reference, 20, RNG(0))["per_layer"]
    assert found.sites == 1
    assert found.value == pytest.approx(spearmanr(scores["a"], reference["a"]).statistic)
    nothing = correlations({"b": np.ones(20)}, {"b": reference["b"]}, 20, RNG(0))
    assert nothing["per_layer"].value is None and nothing["all_layers"].value is None


def test_the_same_seed_gives_the_same_interval(pair):
    assert correlations(*pair, 30, RNG(4)) == correlations(*pair, 30, RNG(4))
