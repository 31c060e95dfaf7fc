"""A criterion less the cost of a channel."""

from functools import partial

import numpy as np
import pytest
import torch
from channels import NETWORKS, filter_cells
from networks import block_cells

from mint_cli.criterion.costed import check, costed
from mint_cli.criterion.min_weight import min_weight
from mint_cli.criterion.random import random
from mint_cli.errors import SettingError
from mint_cli.protocol import Images

BASE = partial(min_weight, normalise=False)
IMAGES = Images(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))


def scored(model, base=BASE, **changed):
    settings = {"base": base, "normalise": False, "cost": 0.0} | changed
    return costed(model, filter_cells(model), IMAGES, np.random.default_rng(0), **settings)


def test_a_cost_is_taken_by_the_million_multiply_accumulates_of_maker_and_readers():
    model = NETWORKS["sequential"]()
    free, paid = scored(model), scored(model, cost=10.0)
    first = 3 * 9 * 64 + 5 * 9 * 64  # three inputs make it, five outputs read it, at 64 positions
    last = 6 * 9 * 64 + 3
    for site, macs in (("first", first), ("last", last)):
        price = free[site].score - paid[site].score
        torch.testing.assert_close(price, torch.full_like(price, 10 * macs / 1e6))


def test_normalised_scores_have_unit_length_before_the_cost_and_halves_go_the_same_way():
    model = NETWORKS["sequential"]()
    for own in scored(model, random, normalise=True).values():
        for part in (own.score, *own.halves):
            assert float(part.norm()) == pytest.approx(1)
    paid = scored(model, random, normalise=True, cost=1.0)["first"]
    price = scored(model, random, normalise=True)["first"].halves[0] - paid.halves[0]
    torch.testing.assert_close(price, torch.full((6,), 0.004608).double())


def test_a_negative_cost_other_cells_and_what_the_base_refuses_are_refused():
    model = NETWORKS["sequential"]()
    cells = filter_cells(model)

    def checked(cells, cost=0.0):
        check({}, cells, torch.zeros(3), base=BASE, normalise=True, cost=cost)

    checked(cells)
    with pytest.raises(SettingError, match="^cost must be at least 0, not -1"):
        checked(cells, -1.0)
    with pytest.raises(SettingError, match="^granularity must be filters"):
        checked(block_cells(model, pixels=(3, 8, 8)))
