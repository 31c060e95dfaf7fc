"""Scores of all cells, checked where plug-ins return them, and what their reader is warned of."""

import logging
from functools import partial

import numpy as np
import pytest
import torch
from experiments import KERNELS, L1, RANDOM, SINGLE, network, sites

from mint_cli.errors import DataError
from mint_cli.protocol import Estimate
from mint_cli.stage.common import prefixed, stream
from mint_cli.stage.score import score, warn_of_noise
from mint_cli.store import Artifact

SHAPES = {"fc1": (20, 36), "fc2": (10, 20), "fc3": (3, 10)}


@pytest.fixture
def dense():
    return Artifact(prefixed("state", network().build().state_dict()), {}, 0.0)


def scored(dense, context, criterion, seed=0, round=1, granularity=KERNELS):
    return score(network(), sites(granularity), criterion, seed, round, dense, context)


def test_every_cell_has_a_score_and_every_site_its_reliability(dense, context):
    tensors, metrics = scored(dense, context, L1)
    assert {name: tuple(own.shape) for name, own in tensors.items()} == SHAPES
    assert all(own.dtype == torch.float64 for own in tensors.values())
    assert torch.equal(tensors["fc2"], dense.tensors["state/fc2.weight"].abs().double())
    assert set(metrics["reliability"]) == set(SHAPES)
    assert metrics["reliability"]["fc2"]["agreement"] is None


def test_a_criterion_draws_from_the_stages_own_stream_another_one_in_every_round(dense, context):
    first, again, later, other = (
        scored(dense, context, RANDOM, seed, r)[0]["fc2"]
        for seed, r in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later) and not torch.equal(first, other)
    rng = np.random.default_rng(stream(0, "score"))
    wanted = {site: sum(rng.random(shape) for _ in range(2)) / 2 for site, shape in SHAPES.items()}
    assert np.array_equal(first, wanted["fc2"])


def test_single_weights_are_scored_in_their_weights_shape(dense, context):
    tensors, _ = scored(dense, context, RANDOM, granularity=SINGLE)
    assert tensors["fc1"].shape == (20, 36)


def leaving_out(model, cells, images, rng, /):
    return {site: Estimate(torch.zeros(own.shape)) for site, own in list(cells.items())[1:]}


def inventing(model, cells, images, rng, /):
    found = {site: Estimate(torch.zeros(own.shape)) for site, own in cells.items()}
    return found | {"fc9": Estimate(torch.zeros(2))}


def transposed(model, cells, images, rng, /):
    return {site: Estimate(torch.zeros(own.shape).T) for site, own in cells.items()}


def broken(model, cells, images, rng, /):
    found = {site: Estimate(torch.zeros(own.shape)) for site, own in cells.items()}
    found["fc2"].score[3, 4] = float("nan")
    return found


BAD = {
    leaving_out: "criterion leaving_out gave no score: fc1",
    inventing: "criterion inventing gave a score for what is none: fc9",
    transposed: r"transposed gave scores of shape \(36, 20\) for fc1, whose cells are \(20, 36\)",
    broken: "criterion broken gave a score that is not finite in fc2",
}


@pytest.mark.parametrize("criterion", BAD, ids=lambda c: c.__name__)
def test_what_a_criterion_returns_is_checked_and_it_is_told_by_name(dense, context, criterion):
    with pytest.raises(DataError, match=BAD[criterion]):
        scored(dense, context, partial(criterion))


@pytest.mark.parametrize(("agreement", "told"), [(0.29, True), (0.31, False), (None, False)])
def test_a_ranking_of_which_two_halves_hardly_agree_is_told_with_its_layers(
    caplog, agreement, told
):
    with caplog.at_level(logging.WARNING):
        warn_of_noise(
            {
                "fc1": {"agreement": 0.9, "equal": False},
                "fc2": {"agreement": agreement, "equal": False},
            }
        )
    found = "mostly noise" in caplog.text and "fc2" in caplog.text and "fc1" not in caplog.text
    assert found is told


def level(model, cells, images, rng, /):
    return {site: Estimate(torch.full(own.shape, 0.1)) for site, own in cells.items()}


def test_scores_that_are_all_equal_are_told(dense, context, caplog):
    with caplog.at_level(logging.WARNING):
        scored(dense, context, partial(level))
    assert "all scores are equal in fc1, fc2, fc3" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        scored(dense, context, L1)
    assert "equal" not in caplog.text
