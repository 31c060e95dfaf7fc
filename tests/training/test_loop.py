"""The training loop: what it learns, what fixes it, what stays removed, how it goes on when cut
off.
"""

from dataclasses import replace

import experiments
import pytest
import torch
from networks import seeded
from torch import nn

from mint_cli.data.images import views
from mint_cli.errors import DataError
from mint_cli.model.mlp import mlp
from mint_cli.network.layers import apply_masks, inference, normalise_inputs
from mint_cli.protocol import Images
from mint_cli.store import Context, Scratch
from mint_cli.training.loop import fit, predict

RECIPE = replace(
    experiments.RECIPE, epochs=4, batch_size=32, weight_decay=1e-3, decay="step", milestones=[2]
)
PIXELS = (1, 6, 6)


def build(dropout: float = 0.1) -> nn.Module:
    model = seeded(lambda: mlp(PIXELS, 3, hidden=[20, 10], dropout=dropout))
    return normalise_inputs(model, (0.0,), (1.0,))


def state_after(images, context, recipe=RECIPE, seed=0, masks=None, dropout=0.1):
    model = build(dropout)
    fit(model, images, recipe, [seed], context, masks)
    return model.state_dict()


def equal(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def right(model, images) -> float:
    return float((predict(model, images)[0] == images.labels).double().mean())


def test_training_learns_what_can_be_learnt(images, context):
    model = build()
    before, loss = right(model, images), predict(model, images)[1]
    losses = fit(model, images, RECIPE, [0], context)
    assert right(model, images) > 0.95 > before and predict(model, images)[1] < loss
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(images, context):
    assert equal(state_after(images, context), state_after(images, context))
    assert not equal(state_after(images, context), state_after(images, context, seed=1))


def test_the_seed_fixes_the_order_of_the_images(images, context):
    """Without dropout and without a transform nothing but the order is left to it."""
    plain = Images(images.pixels, images.labels)
    first, again, other = (state_after(plain, context, seed=s, dropout=0.0) for s in (0, 0, 1))
    assert equal(first, again) and not equal(first, other)


def test_every_epoch_has_an_order_of_its_own(images, context):
    orders = []

    def seen(images, batches, draws):
        orders.extend(batches)
        return views(images, batches, draws)

    recipe = replace(RECIPE, epochs=2, milestones=[], batch_size=100)
    fit(build(), images, recipe, [0], context, views=seen)
    first, second = torch.cat(orders[:3]), torch.cat(orders[3:])
    for order in (first, second):
        assert order.sort().values.tolist() == list(range(300)) != order.tolist()
    assert not torch.equal(first, second)


def test_the_seed_fixes_augmentation_and_dropout(images, context):
    moved = replace(images, padding=1, flip=True)
    still, turned = (state_after(i, context, dropout=0.0) for i in (images, moved))
    assert not equal(still, turned)
    assert equal(turned, state_after(moved, context, dropout=0.0))
    assert not equal(state_after(images, context, dropout=0.1), still)


def masks():
    generator = torch.Generator().manual_seed(0)
    return {
        "fc1.weight": torch.rand(20, 36, generator=generator) < 0.5,
        "fc2.weight": torch.rand(10, 20, generator=generator) < 0.3,
        "fc2.bias": torch.arange(10) > 2,
    }


def test_masked_weights_stay_exactly_zero_momentum_included(images, context):
    model = build()
    apply_masks(model, masks())
    fit(model, images, RECIPE, [0], context, masks())
    for name, mask in masks().items():
        p = model.get_parameter(name)
        assert (p[~mask] == 0.0).all() and (p[mask] != 0).all()


def test_frozen_weights_are_not_trained_and_masks_of_them_hold(images, context):
    model = build()
    apply_masks(model, masks())
    model.fc1.weight.requires_grad_(False)
    before = model.fc1.weight.clone()
    fit(model, images, RECIPE, [0], context, masks())
    assert (
        torch.equal(model.fc1.weight, before)
        and (model.fc2.weight[~masks()["fc2.weight"]] == 0).all()
    )


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(36, 3), nn.Linear(36, 3)

    def forward(self, x):
        return self.used(x.flatten(1))


def test_a_mask_of_a_layer_that_the_pass_never_calls_holds_too(images, context):
    model, mask = seeded(Unused), torch.arange(3) > 0
    both = {"used.weight": mask, "unused.weight": mask}
    apply_masks(model, both)
    fit(model, images, RECIPE, [0], context, both)
    for layer in (model.used, model.unused):
        assert (layer.weight[0] == 0).all() and (layer.weight[1:] != 0).all()


@pytest.mark.parametrize("cut", [1, 3])
def test_a_training_that_was_cut_off_ends_as_if_it_had_not_been(images, tmp_path, cut):
    def context(name):
        return Context(torch.device("cpu"), Scratch(tmp_path / name, seconds_between=0.0))

    whole = state_after(images, context("whole"))

    class Cut(Exception):
        pass

    class CutScratch(Scratch):
        def save(self, tensors):
            super().save(tensors)
            if len(tensors()["losses"]) == cut:
                raise Cut

    with pytest.raises(Cut):
        scratch = CutScratch(tmp_path / "cut", seconds_between=0.0)
        state_after(images, Context(torch.device("cpu"), scratch))
    assert equal(whole, state_after(images, context("cut")))


def test_momentum_returns_in_the_memory_order_of_its_weight(images, tmp_path):
    """The fused update pairs weight and momentum by place in memory; convolutions lie channels
    last.
    """

    def network():
        layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 4), nn.Flatten()
        return normalise_inputs(seeded(lambda: nn.Sequential(*layers)), (0.0,), (1.0,))

    def context(name):
        return Context(torch.device("cpu"), Scratch(tmp_path / name, seconds_between=0.0))

    whole, recipe = network(), replace(RECIPE, epochs=2, decay="step", milestones=[])
    cut = network()
    cut.load_state_dict(whole.state_dict())
    fit(whole, images, recipe, [0], context("whole"))
    fit(cut, images, replace(recipe, epochs=1), [0], context("cut"))
    fit(cut, images, recipe, [0], context("cut"))
    assert equal(whole.state_dict(), cut.state_dict())


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(images, context):
    with pytest.raises(DataError, match=r"training diverged: .* epoch \d+, step \d+"):
        state_after(
            images, context, replace(RECIPE, learning_rate=1e6, momentum=0.0, weight_decay=1e6)
        )


def test_no_epochs_leave_the_network_as_it_is(images, context):
    recipe = replace(RECIPE, epochs=0, milestones=[])
    assert equal(state_after(images, context, recipe), build().state_dict())


class Overwritten(nn.Module):
    """A sum is written into the result of a ReLU, from which its gradient would be made."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(36, 3)

    def forward(self, x):
        x = self.out(x.flatten(1)).relu()
        x += 1.0
        return x


def test_a_network_that_has_no_gradients_is_told(images, context):
    with pytest.raises(DataError, match="the network has no gradients"):
        fit(seeded(Overwritten), images, RECIPE, [0], context)


def test_channels_without_live_inputs_are_worth_their_bias_in_float32_after_a_training_in_bfloat16(
    images, context
):
    def layers():
        return (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(288, 3),
        )

    model = normalise_inputs(seeded(lambda: nn.Sequential(*layers())), (0.0,), (1.0,))
    model[0].bias.data += 1.001  # not a number of bfloat16
    dead = {"0.weight": torch.arange(8)[:, None] < 4}
    apply_masks(model, dead)
    fit(model, images, replace(RECIPE, epochs=30, precision="bfloat16"), [0], context, dead)
    with inference(model):
        normed = model[1](model[0](images.pixels.float() / 255))
    off = normed[:, 4:] - model[1].bias[4:, None, None]
    assert off.abs().max() < 0.01 < 0.1 < normed[:, :4].std()


def test_bfloat16_autocast_trains_too(images, context):
    model = build()
    fit(model, images, replace(RECIPE, precision="bfloat16"), [0], context)
    assert right(model, images) > 0.9


def test_prediction_is_the_largest_logit_and_the_loss_the_mean_over_all_images(images):
    model = build()
    logits = model(images.pixels.float() / 255)
    predicted, loss = predict(model, images, batch_size=70)
    assert torch.equal(predicted, logits.argmax(1)) and predicted.dtype == torch.int64
    assert loss == pytest.approx(
        nn.functional.cross_entropy(logits, images.labels).item(), rel=1e-5
    )
