"""Layer after layer on the pruned prefix: masks hold exactly, nothing is lost where nothing is pruned, errors are made up for."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mint_cli.data import images as im
from mint_cli.compensation.layer import layer
from mint_cli.compensation.sequential import check, sequential
from mint_cli.network.layers import apply_masks, passage
from mint_cli.errors import SettingError


def pruned(model, masks, changed):
    copy = deepcopy(model)
    copy.load_state_dict(copy.state_dict() | changed)
    apply_masks(copy, masks)
    return copy


def outputs(model, images):
    with torch.no_grad():
        return model(im.plain(images, torch.arange(len(images))))


@pytest.mark.parametrize("compensation", [layer, sequential])
def test_full_masks_leave_the_function_as_it_is(compensation, model, masks, noise, settings):
    full = {name: torch.ones_like(mask) for name, mask in masks.items()}
    same, changed = compensation(model, full, noise, np.random.default_rng(0), **settings | {"ridge": 1e-9})
    assert same is full
    torch.testing.assert_close(outputs(pruned(model, full, changed), noise), outputs(model, noise), rtol=1e-3, atol=1e-3)


def test_maps_of_more_positions_than_an_int16_counts(model, noise, settings):
    large = replace(noise, pixels=noise.pixels[:20].repeat(1, 1, 23, 23), labels=noise.labels[:20])
    masks = {"stem": torch.ones(6, 1, dtype=torch.bool)}
    _, changed = sequential(model, masks, large, np.random.default_rng(0), **settings | {"calibration_images": 20})
    torch.testing.assert_close(changed["stem.weight"], model.stem.weight, rtol=1e-3, atol=1e-3)


def test_removed_weights_are_exactly_zero_and_the_model_itself_is_untouched(model, masks, noise, settings):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    _, changed = sequential(model, masks, noise, np.random.default_rng(0), **settings)
    for name, mask in masks.items():
        assert (changed[f"{name}.weight"][~mask] == 0.0).all()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert {key.partition(".")[0] for key in changed} == {"stem", "inner", "inner_norm", "outer", "outer_norm", "out"}


def test_sequential_comes_closer_to_the_dense_outputs_than_layer_by_itself_and_than_no_refit(model, masks, noise, settings):
    def error(changed):
        return float((outputs(pruned(model, masks, changed), noise) - outputs(model, noise)).square().mean())

    found = {f: f(model, masks, noise, np.random.default_rng(0), **settings)[1] for f in (layer, sequential)}
    assert error(found[sequential]) < error(found[layer]) < error({})


def test_what_the_shortcut_lost_is_made_up_for(model, masks, noise, settings):
    """With the stem pruned and everything after it kept, the sum of block and shortcut is nearer the dense sum."""
    only = {"stem": masks["stem"].clone().index_fill_(0, torch.tensor([0, 1]), False), "outer": torch.ones_like(masks["outer"])}
    _, changed = sequential(model, only, noise, np.random.default_rng(0), **settings)
    other = deepcopy(model)
    other.load_state_dict(other.state_dict() | {key: value for key, value in changed.items() if key.startswith("stem")})

    def block(network):
        seen, x = passage(network, "outer", im.plain(noise, torch.arange(200))), network.outer_norm
        return x(seen.leaving) + seen.added

    with torch.no_grad():
        dense, without, refitted = block(model), block(other), block(pruned(model, only, changed))
    assert (refitted - dense).square().mean() < 0.8 * (without - dense).square().mean()


def test_the_same_seed_gives_the_same_bits(model, masks, noise, settings):
    first, second = (sequential(model, masks, noise, np.random.default_rng(5), **settings)[1] for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_too_few_rows_are_refused_with_the_number_of_images_needed(model, masks, noise, settings):
    with pytest.raises(SettingError, match=r"calibration_images must be at least \d+, not 2: layer inner .* only 8 rows"):
        sequential(
            model, {"inner": masks["inner"]}, noise, np.random.default_rng(0), **settings | {"calibration_images": 2, "positions": 4}
        )


def test_more_images_than_there_are_is_refused(model, masks, noise, settings):
    with pytest.raises(SettingError, match="between 1 and 200, the training images, not 201"):
        sequential(model, masks, noise, np.random.default_rng(0), **settings | {"calibration_images": 201})


@pytest.mark.parametrize("count", [0, 301])
def test_more_calibration_images_than_there_are_is_refused_before_any_work(count):
    with pytest.raises(SettingError, match=f"calibration_images must lie between 1 and 300.*not {count}"):
        check({}, torch.zeros(300), calibration_images=count, positions=4, measured=0.5, joint=0.0, ridge=0.01)


@pytest.mark.parametrize("name", ["measured", "joint"])
def test_a_share_of_one_or_more_is_refused(name, model, masks, noise, settings):
    with pytest.raises(SettingError, match=rf"{name} must lie in \[0, 1\), not 1.0"):
        sequential(model, masks, noise, np.random.default_rng(0), **settings | {name: 1.0})


def test_logits_solved_together_differ_less_in_what_decides_and_more_in_what_does_not(model, masks, noise, settings):
    """Of the last layer only differences between logits are felt: an error in one is answered by the same in the others."""
    plain = im.Images(noise.pixels, noise.labels)

    def errors(joint):
        only = {"out": masks["out"]}
        changed = sequential(model, only, plain, np.random.default_rng(0), **settings | {"joint": joint, "calibration_images": 200})[1]
        error = outputs(pruned(model, only, changed), plain) - outputs(model, plain)
        return float((error - error.mean(1, keepdim=True)).square().mean()), float(error.mean(1).square().mean())

    (felt, free), (felt_alone, free_alone) = errors(0.999), errors(0.0)
    assert felt < 0.9 * felt_alone and free > free_alone
