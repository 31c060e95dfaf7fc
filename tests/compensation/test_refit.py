"""Kept weights re-solved: masks hold, nothing is lost where nothing is pruned, errors are made up
for.
"""

from copy import deepcopy
from dataclasses import replace

import branches
import numpy as np
import pytest
import torch
from channels import Net, conv, pooled
from networks import (
    ADDITIONS,
    RELUS,
    block_cells,
    channel_cells,
    layers_of,
    residual,
    seeded,
    weight_cells,
)
from torch import nn

from mint_cli.compensation.refit import check, refit
from mint_cli.data import images as im
from mint_cli.errors import SettingError
from mint_cli.network.cells import masks_of
from mint_cli.network.layers import apply_masks
from mint_cli.network.observe import passage
from mint_cli.protocol import Images

INPUTS = ("dense", "pruned")


def refitted(model, cells, kept, images, calibration, inputs="pruned", seed=0):
    none = {name: torch.zeros_like(own) for name, own in kept.items()}
    settings = {"calibration": calibration, "inputs": inputs}
    found, changed = refit(
        model, cells, kept, none, images, np.random.default_rng(seed), **settings
    )
    assert found is kept
    return changed


def pruned(model, cells, kept, changed):
    copy = deepcopy(model)
    copy.load_state_dict(copy.state_dict() | changed)
    parameters = dict(copy.named_parameters())  # cells may label statistics, too
    apply_masks(copy, {n: m for n, m in masks_of(cells, kept).items() if n in parameters})
    return copy


def outputs(model, images):
    with torch.no_grad():
        return model(im.plain(images, torch.arange(len(images))))


def full(cells):
    return {name: torch.ones(own.shape, dtype=torch.bool) for name, own in cells.items()}


@pytest.mark.parametrize("granularity", [block_cells, weight_cells])
@pytest.mark.parametrize("inputs", INPUTS)
def test_full_masks_leave_the_function_as_it_is(model, noise, calibration, inputs, granularity):
    cells = granularity(model)
    changed = refitted(model, cells, full(cells), noise, replace(calibration, ridge=1e-9), inputs)
    after = pruned(model, cells, full(cells), changed)
    torch.testing.assert_close(outputs(after, noise), outputs(model, noise), rtol=1e-3, atol=1e-3)


def test_removed_weights_are_exactly_zero_and_the_model_itself_is_untouched(
    model, cells, kept, noise, calibration
):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    changed = refitted(model, cells, kept, noise, calibration)
    for name, mask in kept.items():
        assert (changed[f"{name}.weight"][~mask] == 0.0).all()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    parts = {"stem", "inner", "inner_norm", "outer", "outer_norm", "out"}
    assert {key.partition(".")[0] for key in changed} == parts


def test_single_weights_are_solved_for_on_just_those_that_are_kept(model, noise, calibration):
    cells = weight_cells(model, "inner")
    kept = {"inner": torch.rand(8, 6, 3, 3, generator=torch.Generator().manual_seed(3)) < 0.4}
    weight = refitted(model, cells, kept, noise, calibration)["inner.weight"]
    assert torch.equal(weight != 0, kept["inner"])


def test_each_layer_is_the_least_squares_fit_of_its_own_dense_output(
    model, cells, kept, noise, calibration
):
    plain = im.Images(noise.pixels, noise.labels)
    everywhere = replace(
        calibration, measured=0.0, joint=0.0, images=200, positions=64, ridge=1e-12
    )
    changed = refitted(model, cells, kept, plain, everywhere, "dense")
    with torch.no_grad():
        seen = passage(model, "inner", im.plain(plain, torch.arange(200)))
    unfolded = nn.functional.unfold(seen.entering, 3, padding=1, stride=2)
    patches = unfolded.transpose(1, 2).flatten(0, 1)
    targets = seen.leaving.flatten(2).transpose(1, 2).flatten(0, 1)
    mask = kept["inner"][0].repeat_interleave(9)
    design = torch.cat([patches[:, mask], torch.ones(len(patches), 1)], 1).double()
    wanted = torch.linalg.lstsq(design, targets[:, 0].double()).solution.float()
    found = changed["inner.weight"][0].flatten()
    torch.testing.assert_close(found[mask], wanted[:-1], rtol=1e-3, atol=1e-4)
    assert (found[~mask] == 0.0).all()
    bias = model.inner_norm.running_mean[0] - changed["inner_norm.running_mean"][0]
    torch.testing.assert_close(bias, wanted[-1], rtol=1e-3, atol=1e-4)


def test_pruned_inputs_come_closer_to_the_dense_outputs_than_dense_ones_and_these_than_no_refit(
    model, cells, kept, noise, calibration
):
    def error(changed):
        difference = outputs(pruned(model, cells, kept, changed), noise) - outputs(model, noise)
        return float(difference.square().mean())

    dense, given = (error(refitted(model, cells, kept, noise, calibration, i)) for i in INPUTS)
    assert given < dense < error({})


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_what_the_shortcut_lost_is_made_up_for(cells, kept, noise, calibration, add):
    """With the stem pruned and everything after it kept, block and shortcut together come nearer to
    the dense sum.
    """
    model, ordinary = residual(add=add), residual()
    only = {"stem": cells["stem"], "outer": cells["outer"]}
    keep = {"stem": kept["stem"].clone().index_fill_(0, torch.tensor([0, 1]), False)}
    keep["outer"] = torch.ones_like(kept["outer"])
    changed = refitted(model, only, keep, noise, calibration)
    without = deepcopy(ordinary)
    stem = {key: value for key, value in changed.items() if key.startswith("stem")}
    without.load_state_dict(without.state_dict() | stem)

    def block(network):
        seen = passage(network, "outer", im.plain(noise, torch.arange(200)))
        return network.outer_norm(seen.leaving) + seen.added

    with torch.no_grad():
        networks = ordinary, without, pruned(ordinary, only, keep, changed)
        dense, left, refit_ = (block(network) for network in networks)
    assert (refit_ - dense).square().mean() < 0.8 * (left - dense).square().mean()


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_what_works_in_place_is_refitted_to_the_bits_of_what_does_not(
    relu, add, inputs, cells, kept, noise, calibration
):
    wanted = refitted(residual(), cells, kept, noise, calibration, inputs)
    found = refitted(residual(relu, add), cells, kept, noise, calibration, inputs)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)


def test_the_same_stream_gives_the_same_bits_and_another_one_others(
    model, cells, kept, noise, calibration
):
    first, second, other = (
        refitted(model, cells, kept, noise, calibration, seed=s) for s in (5, 5, 6)
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not torch.equal(first["inner.weight"], other["inner.weight"])


def test_logits_solved_together_differ_less_in_what_decides_and_more_in_what_does_not(
    model, cells, kept, noise, calibration
):
    """The logits' mean decides nothing: an error in one logit is answered by the same in the
    others.
    """
    plain = im.Images(noise.pixels, noise.labels)
    only, keep = {"out": cells["out"]}, {"out": kept["out"]}

    def errors(joint):
        changed = refitted(model, only, keep, plain, replace(calibration, joint=joint, images=200))
        error = outputs(pruned(model, only, keep, changed), plain) - outputs(model, plain)
        decides = (error - error.mean(1, keepdim=True)).square().mean()
        return float(decides), float(error.mean(1).square().mean())

    (felt, free), (felt_alone, free_alone) = errors(0.999), errors(0.0)
    assert felt < 0.9 * felt_alone and free > free_alone


def test_too_few_rows_are_refused_with_the_number_of_images_needed(
    model, cells, kept, noise, calibration
):
    few = replace(calibration, images=2, positions=4)
    wanted = r"calibration.images must be at least \d+, not 2; layer inner .* only 8 rows"
    with pytest.raises(SettingError, match=wanted):
        refitted(model, {"inner": cells["inner"]}, {"inner": kept["inner"]}, noise, few)


def test_more_images_than_there_are_and_other_inputs_are_refused_before_any_work(
    model, cells, calibration
):
    layers, labels = layers_of(model), torch.zeros(99)
    with pytest.raises(
        SettingError, match="^calibration.images must lie between 1 and 99.*not 100"
    ):
        check(layers, cells, labels, calibration=calibration, inputs="dense")
    with pytest.raises(SettingError, match="^inputs must be one of"):
        check(layers, cells, torch.zeros(100), calibration=calibration, inputs="sparse")
    check(layers, cells, torch.zeros(100), calibration=calibration, inputs="dense")


@pytest.fixture
def channels(model):
    return channel_cells(model)


@pytest.mark.parametrize("inputs", INPUTS)
def test_full_masks_of_whole_channels_leave_the_function_as_it_is(
    model, channels, noise, calibration, inputs
):
    exact = replace(calibration, ridge=1e-9)
    changed = refitted(model, channels, full(channels), noise, exact, inputs)
    after = pruned(model, channels, full(channels), changed)
    torch.testing.assert_close(outputs(after, noise), outputs(model, noise), rtol=1e-3, atol=1e-3)
    read = {"inner", "outer", "out"}  # layers that lose inputs are solved, the stem is not
    assert {key.partition(".")[0] for key in changed} == read | {"inner_norm", "outer_norm"}


def test_a_refit_of_the_readers_of_whole_channels_comes_closer_to_the_dense_network(
    model, channels, noise, calibration
):
    keep = {site: torch.arange(own.shape[0]) % 3 > 0 for site, own in channels.items()}

    def error(changed):
        difference = outputs(pruned(model, channels, keep, changed), noise) - outputs(model, noise)
        return float(difference.square().mean())

    changed = refitted(model, channels, keep, noise, calibration)
    assert error(changed) < 0.5 * error({})
    for site, own in channels.items():
        for name, labels in own.labels.items():
            if labels.ndim == 2:
                columns = torch.cat([keep[site], torch.ones(1, dtype=torch.bool)])[labels[0].long()]
                assert not changed[name][:, ~columns].any()


class Backwards(nn.Module):
    """Defines last what it calls first."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.second = nn.Linear(6, 3), nn.Conv2d(6, 6, 3)
        self.first = nn.Conv2d(1, 6, 3)

    def forward(self, x):
        return self.out(self.second(self.first(x).relu()).relu().mean((2, 3)))


class Forwards(Backwards):
    """The same, defined in the order of its calls."""

    def __init__(self) -> None:
        super().__init__()
        out, second = self.out, self.second
        del self.out, self.second
        self.second, self.out = second, out


def test_layers_are_solved_in_the_order_in_which_a_pass_calls_them(noise, calibration):
    """So that the inputs of each are those of layers already pruned, however the network is
    defined.
    """
    found = []
    for build in (Backwards, Forwards):
        model = seeded(build)
        cells = block_cells(model)
        generator = torch.Generator().manual_seed(2)
        kept = {
            name: torch.rand(own.shape, generator=generator) < 0.6 for name, own in cells.items()
        }
        found.append(refitted(model, cells, kept, noise, calibration))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


class Padded(nn.Module):
    """Convolutions that pad with what is not zero, or as much as keeps the size."""

    def __init__(self, mode: str, padding) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, padding_mode=mode)
        self.second = nn.Conv2d(4, 5, (3, 4), padding=padding, padding_mode=mode)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.second(self.first(x).relu()).relu().mean((2, 3)))


PADDINGS = [
    (mode, padding)
    for mode in ("zeros", "reflect", "circular", "replicate")
    for padding in (1, "same")
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("mode", "padding"), [*PADDINGS, ("zeros", "valid"), ("zeros", (2, 0))])
@pytest.mark.parametrize("inputs", INPUTS)
def test_full_masks_leave_a_network_with_any_padding_as_it_is(
    mode, padding, inputs, noise, calibration
):
    model = seeded(lambda: Padded(mode, padding))
    cells = block_cells(model)
    changed = refitted(model, cells, full(cells), noise, replace(calibration, ridge=1e-9), inputs)
    after = pruned(model, cells, full(cells), changed)
    torch.testing.assert_close(outputs(after, noise), outputs(model, noise), rtol=1e-3, atol=1e-3)


class Tokens(nn.Module):
    """Linear layers on as many tokens as they have channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.again, self.out = nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.again(self.mix(x[:, 0]).relu()).relu().mean(1))


@pytest.mark.parametrize("inputs", INPUTS)
def test_full_masks_leave_linear_layers_on_tokens_as_they_are(inputs, noise, calibration):
    model = seeded(Tokens)
    cells = block_cells(model)
    changed = refitted(model, cells, full(cells), noise, replace(calibration, ridge=1e-9), inputs)
    after = pruned(model, cells, full(cells), changed)
    torch.testing.assert_close(outputs(after, noise), outputs(model, noise), rtol=1e-3, atol=1e-3)


def test_frozen_weights_are_refitted_as_others_are(model, cells, kept, noise, calibration):
    wanted = refitted(model, cells, kept, noise, calibration)
    model.requires_grad_(False)
    found = refitted(model, cells, kept, noise, calibration)
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())


def unit_case(linear: bool):
    """A network of three units of which the second is to go, and images for it."""

    def forward(m, x):
        x = m.stem(x)
        for name in ("first", "second"):
            x = x + m.get_submodule(name)(x)
        return m.out(pooled(torch.relu(m.norm(m.last(x)))))

    def second():
        if linear:
            return nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1))
        return branches.branch(6, 6)

    model = branches.network(
        lambda: Net(
            forward, stem=conv(3, 6), first=branches.branch(6, 6),
            second=second(),
            last=conv(6, 8, bias=False, padding=0), norm=nn.BatchNorm2d(8), out=nn.Linear(8, 3),
        )
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (200, 3, 8, 8), generator=generator, dtype=torch.uint8)
    cells = branches.unit_cells(model)
    return model, cells, Images(pixels, torch.arange(200) % 3)


def test_what_reads_a_unit_of_linear_layers_makes_up_for_it_exactly(calibration):
    model, cells, images = unit_case(linear=True)
    kept = branches.without(cells, "second")
    changed = refitted(model, cells, kept, images, replace(calibration, ridge=1e-9))
    assert set(changed) == {"last.weight", "norm.running_mean", "out.weight", "out.bias"}
    found = outputs(pruned(model, cells, kept, changed), images)
    torch.testing.assert_close(found, outputs(model, images), rtol=1e-3, atol=1e-3)
    assert (
        outputs(pruned(model, cells, kept, {}), images) - outputs(model, images)
    ).abs().max() > 0.05


@pytest.mark.parametrize("build", [branches.residual, branches.dense])
def test_without_a_unit_the_refitted_network_is_nearer_to_the_dense_one(build, calibration):
    _, _, images = unit_case(linear=False)
    model = branches.network(build)
    cells = branches.unit_cells(model)
    kept = branches.without(cells, "second")
    changed = refitted(model, cells, kept, images, calibration)
    gone = [name for name in cells["units"].labels if name.startswith("second")]
    assert changed and not set(gone) & set(changed)
    wanted = outputs(model, images)
    left, lost = (
        (outputs(pruned(model, cells, kept, own), images) - wanted).square().mean()
        for own in (changed, {})
    )
    assert left < 0.5 * lost


def test_layers_before_the_first_unit_that_goes_stay_as_they_are(calibration):
    model, cells, images = unit_case(linear=False)
    changed = refitted(model, cells, branches.without(cells, "second"), images, calibration)
    assert not [name for name in changed if name.startswith(("stem", "first"))]
    assert not refitted(model, cells, branches.without(cells), images, calibration)
