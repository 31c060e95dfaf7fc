"""The quotas of one criterion with the order of another."""

from functools import partial

import numpy as np
import pytest
import torch
from networks import block_cells, layers_of, seeded
from torch import nn

from mint_cli.allocation.capped_quota import capped_quota
from mint_cli.criterion.l1 import l1
from mint_cli.criterion.random import random
from mint_cli.criterion.taylor import taylor
from mint_cli.criterion.within import check, within
from mint_cli.errors import SettingError
from mint_cli.network import cells as ce
from mint_cli.protocol import Estimate

L1 = partial(l1, normalise=False)
PIXELS = (1, 6, 6)


@pytest.fixture
def model() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 12))
    )


def scores(estimates):
    return {site: estimate.score for site, estimate in estimates.items()}


def test_one_quota_takes_as_many_cells_of_a_site_as_one_says_and_which_the_other(model, images):
    cells = block_cells(model, pixels=PIXELS)
    parameters = dict(model.named_parameters())
    sizes = {site: ce.sizes(own, parameters, parameters) for site, own in cells.items()}
    drawn = scores(random(model, cells, images, np.random.default_rng(0)))
    drawn["1"] = drawn["1"] ** 3  # lower, so that more of it goes

    def quotas(model, cells, images, rng):
        return {site: Estimate(score) for site, score in drawn.items()}

    rng = np.random.default_rng(0)
    found = within(model, cells, images, rng, quotas=partial(quotas), order=L1)
    kept, asked = (capped_quota(s, sizes, 500, cap=1.0, caps={}) for s in (scores(found), drawn))
    for site in cells:
        count = int((~asked[site]).sum())
        assert int((~kept[site]).sum()) == count
        magnitude = model.get_submodule(site).weight.detach().abs().flatten()
        lowest = magnitude.argsort()[:count]
        assert not kept[site].flatten()[lowest].any()
    assert not torch.equal(kept["1"], asked["1"])


def test_quotas_are_those_that_their_criterion_gives_on_its_own_with_the_same_generator(
    model, images
):
    cells = block_cells(model, pixels=PIXELS)
    own = partial(taylor, samples_per_class=20, batch_size=10, normalise=False)
    alone = scores(own(model, cells, images, np.random.default_rng(3)))
    both = within(model, cells, images, np.random.default_rng(3), quotas=own, order=L1)
    for site, score in scores(both).items():
        assert torch.equal(score.flatten().sort().values, alone[site].flatten().sort().values)


@pytest.mark.parametrize("name", ["quotas", "order"])
def test_what_either_criterion_refuses_is_refused_in_its_name(model, name):
    own = partial(taylor, samples_per_class=101, batch_size=10, normalise=False)
    settings = {"quotas": L1, "order": L1, name: own}
    cells, labels = block_cells(model, pixels=PIXELS), torch.arange(300) % 3
    with pytest.raises(SettingError, match=f"^{name}.samples_per_class must lie between 1 and 100"):
        check(layers_of(model, PIXELS), cells, labels, **settings)
