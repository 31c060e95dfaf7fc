"""Cells chosen anew: counts hold exactly, cells stay whole, and the choice beats the one it was
given.
"""

from copy import deepcopy

import branches
import numpy as np
import pytest
import torch
from networks import (
    ADDITIONS,
    RELUS,
    block_cells,
    channel_cells,
    layers_of,
    residual,
    weight_cells,
)
from torch import nn

from mint_cli.compensation.refit import refit
from mint_cli.compensation.reselect import check, reselect
from mint_cli.data import images as im
from mint_cli.errors import SettingError
from mint_cli.network.cells import masks_of, sizes
from mint_cli.network.layers import apply_masks, record


def reselected(model, cells, kept, images, calibration, gone=None, seed=0, **changed):
    gone = gone or {name: torch.zeros_like(own) for name, own in kept.items()}
    settings = {"calibration": calibration, "inputs": "pruned", "growth": 2.0, "sweeps": 1}
    rng = np.random.default_rng(seed)
    return reselect(model, cells, kept, gone, images, rng, **settings | changed)


def error(model, cells, kept, changed, images):
    copy = deepcopy(model)
    copy.load_state_dict(copy.state_dict() | changed)
    parameters = dict(copy.named_parameters())  # cells may label statistics, too
    apply_masks(copy, {n: m for n, m in masks_of(cells, kept).items() if n in parameters})
    x = im.plain(images, torch.arange(len(images)))
    with torch.no_grad():
        return float((copy(x) - model(x)).square().mean())


def test_every_layer_keeps_as_many_cells_and_removed_weights_are_exactly_zero(
    model, cells, kept, noise, calibration
):
    chosen, changed = reselected(model, cells, kept, noise, calibration)
    for name, own in kept.items():
        assert chosen[name].sum() == own.sum() and chosen[name].shape == own.shape
        assert (changed[f"{name}.weight"][~chosen[name]] == 0.0).all()
    assert any(not torch.equal(chosen[name], own) for name, own in kept.items())


@pytest.mark.parametrize("inputs", ["dense", "pruned"])
def test_the_choice_is_closer_to_the_dense_network_than_the_cells_it_was_given(
    model, cells, kept, noise, calibration, inputs
):
    chosen, changed = reselected(model, cells, kept, noise, calibration, inputs=inputs)
    settings = {"calibration": calibration, "inputs": inputs}
    given, refitted = refit(model, cells, kept, kept, noise, np.random.default_rng(0), **settings)
    mine, theirs = ((chosen, changed), (given, refitted))
    assert error(model, cells, *mine, noise) < error(model, cells, *theirs, noise)


def test_single_weights_are_chosen_as_many_as_were_given(model, noise, calibration):
    cells = weight_cells(model, "inner", "outer")
    kept = {name: torch.rand(own.shape) < 0.3 for name, own in cells.items()}
    chosen, changed = reselected(model, cells, kept, noise, calibration)
    for name, own in kept.items():
        assert chosen[name].sum() == own.sum()
        assert (changed[f"{name}.weight"][~chosen[name]] == 0).all()


def test_of_cells_of_unequal_size_as_many_of_every_size_go(model, noise, calibration):
    cells = block_cells(model, "inner", child=3, parent=4)
    held = sizes(cells["inner"], dict(model.named_parameters()), ["inner.weight"])
    kept = {"inner": torch.rand(3, 4, generator=torch.Generator().manual_seed(3)) < 0.5}
    chosen, _ = reselected(model, cells, kept, noise, calibration)
    assert len(held.unique()) == 4
    for size in held.unique():
        assert chosen["inner"][held == size].sum() == kept["inner"][held == size].sum()


def test_what_is_gone_is_never_revived_however_much_it_carries(
    model, cells, kept, noise, calibration
):
    """Of the outer layer the cells go that the compensation would keep first."""
    ends = {name: torch.ones_like(own) for name, own in kept.items()}
    ends["outer"] = kept["outer"]
    best, _ = reselected(model, cells, ends, noise, calibration)
    gone = {name: torch.zeros_like(own) for name, own in kept.items()}
    gone["outer"] = best["outer"] & (torch.arange(8) < 3)
    ends["outer"] = ~gone["outer"]
    chosen, changed = reselected(model, cells, ends, noise, calibration, gone)
    assert gone["outer"].any() and torch.equal(chosen["outer"], ~gone["outer"])
    assert (changed["outer.weight"][gone["outer"]] == 0).all()


def test_of_whole_channels_as_many_stay_those_that_carry_most(model, noise, calibration):
    cells = channel_cells(model)
    kept = {site: torch.arange(own.shape[0]) % 2 == 0 for site, own in cells.items()}
    chosen, changed = reselected(model, cells, kept, noise, calibration)
    settings = {"calibration": calibration, "inputs": "pruned"}
    given, refitted = refit(model, cells, kept, kept, noise, np.random.default_rng(0), **settings)
    assert {s: int(own.sum()) for s, own in chosen.items()} == {
        s: int(o.sum()) for s, o in kept.items()
    }
    mine, theirs = (chosen, changed), (given, refitted)
    assert error(model, cells, *mine, noise) < error(model, cells, *theirs, noise)


def test_whole_channels_that_are_gone_are_never_revived(model, noise, calibration):
    cells = channel_cells(model)
    kept = {site: torch.arange(own.shape[0]) % 2 == 0 for site, own in cells.items()}
    best, _ = reselected(model, cells, kept, noise, calibration)
    gone = {site: own & (own.cumsum(0) <= 2) for site, own in best.items()}  # two of the best
    fewer = {site: torch.ones_like(own) & ~gone[site] for site, own in kept.items()}
    chosen, _ = reselected(model, cells, fewer, noise, calibration, gone)
    assert all(torch.equal(chosen[site], ~own) for site, own in gone.items())
    for own in fewer.values():
        own[-1] = False
    chosen, _ = reselected(model, cells, fewer, noise, calibration, gone)
    assert all(not (chosen[site] & own).any() for site, own in gone.items())
    assert all(chosen[site].sum() == own.sum() for site, own in fewer.items())


def test_full_and_empty_choices_stay_full_and_empty(model, cells, kept, noise, calibration):
    ends = {"inner": torch.ones_like(kept["inner"]), "outer": torch.zeros_like(kept["outer"])}
    only = {name: cells[name] for name in ends}
    chosen, changed = reselected(model, only, ends, noise, calibration)
    assert chosen["inner"].all() and not chosen["outer"].any()
    assert not changed["outer.weight"].any()


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
@pytest.mark.parametrize("relu", list(RELUS.values())[1:], ids=list(RELUS)[1:])
def test_what_works_in_place_is_chosen_as_what_does_not(relu, add, cells, kept, noise, calibration):
    wanted, values = reselected(residual(), cells, kept, noise, calibration)
    found, same = reselected(residual(relu, add), cells, kept, noise, calibration)
    assert all(torch.equal(found[name], own) for name, own in wanted.items())
    for name, value in values.items():
        torch.testing.assert_close(same[name], value, rtol=1e-6, atol=1e-6)


def test_the_stream_chooses_the_images(model, cells, kept, noise, calibration):
    first, again, other = (
        reselected(model, cells, kept, noise, calibration, seed=s)[1]["inner.weight"]
        for s in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def checked(model, cells, calibration, count=300, **changed):
    settings = {"calibration": calibration, "inputs": "pruned", "growth": 2.0, "sweeps": 1}
    check(record(model, (1, 8, 8)), cells, torch.zeros(count), **settings | changed)


BAD = {
    "growth": (0.5, "must lie between 1 and 1000, not 0.5"),
    "sweeps": (-1, "must lie between 0 and 100, not -1"),
    "inputs": ("both", "must be one of dense, pruned, not both"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_outside_their_bounds_are_refused_by_name(name, model, cells, calibration):
    value, bound = BAD[name]
    with pytest.raises(SettingError, match=f"^{name} {bound}"):
        checked(model, cells, calibration, **{name: value})
    checked(model, cells, calibration)


def test_too_few_images_and_layers_that_cannot_be_seen_are_refused(model, cells, calibration):
    with pytest.raises(SettingError, match="^calibration.images must lie between 1 and 99"):
        checked(model, cells, calibration, count=99)
    grouped = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten())
    with pytest.raises(SettingError, match="^skip must leave alone 1"):
        checked(grouped, block_cells(grouped), calibration)


def test_it_says_that_of_a_choice_only_the_counts_matter():
    assert reselect.chooses


def test_whole_units_are_not_chosen_anew_and_told_what_solves_what_they_leave(calibration):
    model = branches.network(branches.residual)
    cells, layers = branches.unit_cells(model), layers_of(model, branches.PIXELS)
    settings = {"calibration": calibration, "inputs": "pruned", "growth": 2.0, "sweeps": 1}
    with pytest.raises(
        SettingError, match="^granularity must be blocks.*compensation refit solves"
    ):
        check(layers, cells, torch.arange(300) % 3, **settings)
