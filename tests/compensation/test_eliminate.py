"""Groups chosen anew: counts hold exactly, blocks stay whole, and the choice beats the one that it was given."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from mint_cli import group
from mint_cli.data import images as im
from mint_cli.compensation.eliminate import eliminate
from mint_cli.compensation.sequential import sequential
from mint_cli.network.layers import apply_masks
from mint_cli.errors import SettingError


@pytest.fixture
def single() -> dict:
    return {"growth": 2.0, "sweeps": 1, "child_groups": None, "parent_groups": None}


def error(model, masks, changed, images):
    copy = deepcopy(model)
    copy.load_state_dict(copy.state_dict() | changed)
    apply_masks(copy, masks)
    x = im.plain(images, torch.arange(len(images)))
    with torch.no_grad():
        return float((copy(x) - model(x)).square().mean())


def test_every_layer_keeps_as_many_connections_as_its_mask_and_removed_weights_are_exactly_zero(model, masks, noise, settings, single):
    chosen, changed = eliminate(model, masks, noise, np.random.default_rng(0), **settings, **single)
    for name, mask in masks.items():
        assert int(chosen[name].sum()) == int(mask.sum())
        assert (changed[f"{name}.weight"][~chosen[name]] == 0.0).all()


def test_the_choice_is_closer_to_the_dense_network_than_the_masks_it_was_given(model, masks, noise, settings, single):
    chosen, changed = eliminate(model, masks, noise, np.random.default_rng(0), **settings, **single)
    given = sequential(model, masks, noise, np.random.default_rng(0), **settings)
    assert error(model, chosen, changed, noise) < error(model, *given, noise)


def test_unequal_groups_stay_whole_and_lose_as_many_blocks_of_every_size(model, noise, settings):
    child, parent = group.labels(8, 3), group.labels(6, 4)
    blocks = torch.rand(3, 4, generator=torch.Generator().manual_seed(3)) < 0.5
    masks = {"inner": group.expand(blocks, child, parent)}
    chosen, _ = eliminate(model, masks, noise, np.random.default_rng(0), **settings, growth=2.0, sweeps=1, child_groups=3, parent_groups=4)
    share = group.block_mean(chosen["inner"], child, parent)
    assert set(share.unique().tolist()) <= {0.0, 1.0}
    assert int(chosen["inner"].sum()) == int(masks["inner"].sum())


def test_a_mask_that_cuts_a_block_in_two_loses_exactly_as_many_connections(model, noise, settings):
    child, parent = group.labels(8, 3), group.labels(6, 2)
    mask = torch.ones(8, 6, dtype=torch.bool)
    mask.view(-1)[:13] = False
    chosen, _ = eliminate(
        model, {"inner": mask}, noise, np.random.default_rng(0), **settings, growth=2.0, sweeps=1, child_groups=3, parent_groups=2
    )
    partial = group.block_mean(chosen["inner"], child, parent)
    assert int((~chosen["inner"]).sum()) == 13 and int(((partial > 0) & (partial < 1)).sum()) <= 2  # one of either size of block


def test_full_and_empty_masks_stay_full_and_empty(model, masks, noise, settings, single):
    ends = {"inner": torch.ones_like(masks["inner"]), "outer": torch.zeros_like(masks["outer"])}
    chosen, changed = eliminate(model, ends, noise, np.random.default_rng(0), **settings, **single)
    assert chosen["inner"].all() and not chosen["outer"].any() and not changed["outer.weight"].any()


@pytest.mark.parametrize(("name", "value", "bound"), [("growth", 0.5, 1), ("sweeps", -1, 0)])
def test_settings_below_their_bounds_are_refused(name, value, bound, model, masks, noise, settings, single):
    with pytest.raises(SettingError, match=f"{name} must be at least {bound}, not {value}"):
        eliminate(model, masks, noise, np.random.default_rng(0), **settings, **single | {name: value})
