"""Random scores, the control."""

import numpy as np
import pytest
import torch

from mint_cli import reliability
from mint_cli.criterion.random import random
from mint_cli.protocol import Cells

CELLS = {"a": Cells((5, 4), {}), "b": Cells((40, 3, 2), {})}


def scores(seed: int):
    return random(None, CELLS, None, np.random.default_rng(seed))


def test_every_cell_gets_a_number_of_its_own_and_the_seed_decides():
    first, again, other = (scores(s)["b"] for s in (0, 0, 1))
    assert first.score.shape == (40, 3, 2) and len(first.score.unique()) == 240
    assert torch.equal(first.score, again.score) and not torch.equal(first.score, other.score)


def test_sites_do_not_share_their_numbers():
    found = scores(0)
    assert not set(found["a"].score.flatten().tolist()) & set(found["b"].score.flatten().tolist())


def test_a_score_is_the_mean_of_two_halves_that_agree_by_chance_alone():
    estimate = scores(0)["b"]
    torch.testing.assert_close(estimate.score, (estimate.halves[0] + estimate.halves[1]) / 2)
    assert reliability.agreement(estimate) == pytest.approx(0, abs=0.2)
