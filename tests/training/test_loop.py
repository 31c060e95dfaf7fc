from dataclasses import replace

import pytest
import torch

from mint_cli import network
from mint_cli.model.mlp import mlp
from mint_cli.errors import DataError, SettingError
from mint_cli.store import Context, Scratch
from mint_cli.training.loop import Recipe, evaluate, fit, learning_rate

RECIPE = Recipe(
    epochs=4, batch_size=32, learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3, decay="step", milestones=[2],
    gamma=0.1, warmup=0, label_smoothing=0.0, precision="float32", compile=False,
)  # fmt: skip


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    return network.normalise_inputs(mlp((1, 6, 6), 3, hidden=[20, 10], dropout=0.1), (0.0,), (1.0,))


def state_after(images, context, recipe=RECIPE, seed=0, masks=None):
    model = build()
    fit(model, images, recipe, [seed], context, masks)
    return model.state_dict()


def equal(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_training_learns_what_can_be_learnt(images, context):
    model = build()
    before = evaluate(model, images)
    fit(model, images, RECIPE, [0], context)
    after = evaluate(model, images)
    assert after["accuracy"] > 0.95 > before["accuracy"] and after["loss"] < before["loss"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(images, context):
    assert equal(state_after(images, context), state_after(images, context))
    assert not equal(state_after(images, context), state_after(images, context, seed=1))


def test_masked_weights_stay_exactly_zero_momentum_included(images, context):
    model = build()
    masks = {"fc1": torch.rand(20, 36) < 0.5, "fc2": torch.rand(10, 20) < 0.3}
    network.apply_masks(model, masks)
    fit(model, images, RECIPE, [0], context, masks)
    for name, mask in masks.items():
        weight = network.weighted_layers(model)[name].weight
        assert (weight[~mask] == 0.0).all() and (weight[mask] != 0).all()


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
        state_after(images, Context(torch.device("cpu"), CutScratch(tmp_path / "cut", seconds_between=0.0)))
    assert equal(whole, state_after(images, context("cut")))


def test_momentum_returns_in_the_memory_order_of_its_weight(images, tmp_path):
    """The fused update pairs weight and momentum by their place in memory, and convolutions lie channels last."""
    scratch = Scratch(tmp_path / "cut", seconds_between=0.0)
    device = torch.device("cpu")
    whole, cut = (
        torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 4), torch.nn.Flatten()) for _ in range(2)
    )
    cut.load_state_dict(whole.state_dict())
    recipe = replace(RECIPE, epochs=2, decay="step", milestones=[])
    for model in (whole, cut):
        network.normalise_inputs(model, (0.0,), (1.0,))
    fit(whole, images, recipe, [0], Context(device, Scratch(tmp_path / "whole", seconds_between=0.0)))
    fit(cut, images, replace(recipe, epochs=1), [0], Context(device, scratch))
    fit(cut, images, recipe, [0], Context(device, scratch))
    assert equal(whole.state_dict(), cut.state_dict())


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(images, context):
    with pytest.raises(DataError, match=r"epoch \d+, step \d+"):
        state_after(images, context, replace(RECIPE, learning_rate=1e30))


def test_no_epochs_leave_the_network_as_it_is(images, context):
    assert equal(state_after(images, context, replace(RECIPE, epochs=0)), build().state_dict())


def test_steps_and_cosine_reach_the_rates_their_formulas_name():
    steps = replace(RECIPE, epochs=30, milestones=[10, 20], learning_rate=0.1)
    assert [round(learning_rate(steps, e), 9) for e in (0, 9.99, 10, 20, 29)] == [0.1, 0.1, 0.01, 0.001, 0.001]
    cosine = replace(RECIPE, epochs=11, decay="cosine", milestones=[], warmup=1, learning_rate=0.2)
    assert learning_rate(cosine, 0) == 0 and learning_rate(cosine, 0.5) == pytest.approx(0.1)
    assert learning_rate(cosine, 1) == pytest.approx(0.2) and learning_rate(cosine, 6) == pytest.approx(0.1)
    assert learning_rate(cosine, 11) == pytest.approx(0, abs=1e-12)


def test_channels_without_live_inputs_are_worth_their_bias_in_float32_after_a_training_in_bfloat16(images, context):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 3)]
    model = network.normalise_inputs(torch.nn.Sequential(*layers), (0.0,), (1.0,))
    model[0].bias.data += 1.001  # not a number of bfloat16
    masks = {"0": torch.arange(8)[:, None] < 4}
    network.apply_masks(model, masks)
    fit(model, images, replace(RECIPE, epochs=30, precision="bfloat16"), [0], context, masks)
    with network.inference(model):
        normed = model[1](model[0](images.pixels.float() / 255))
    dead = normed[:, 4:] - model[1].bias[4:, None, None]
    assert dead.abs().max() < 0.01 < 0.1 < normed[:, :4].std()


def test_bfloat16_autocast_trains_too(images, context):
    model = build()
    fit(model, images, replace(RECIPE, precision="bfloat16"), [0], context)
    assert evaluate(model, images)["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("setting", "value"), [("epochs", -1), ("batch_size", 0), ("decay", "linear"), ("precision", "float16"), ("epochs", "two")]
)
def test_a_recipe_outside_its_bounds_is_refused_by_name(setting, value):
    with pytest.raises(SettingError, match=setting):
        replace(RECIPE, **{setting: value})


def test_evaluation_counts_by_hand(images):
    model = build().eval()
    logits = model(images.pixels.float() / 255)
    measured = evaluate(model, images, batch_size=70)
    assert measured["accuracy"] == float((logits.argmax(1) == images.labels).double().mean())
    assert measured["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, images.labels).item(), rel=1e-5)
