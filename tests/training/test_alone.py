"""Modules trained alone: nothing else changes, and what is computed once changes nothing."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import seeded
from torch import nn
from torchvision import models

from mint_cli.network.layers import normalise_inputs
from mint_cli.training import alone
from mint_cli.training.alone import Alone, ending, fit_alone
from mint_cli.training.loop import predict
from mint_cli.training.recipe import Recipe

RECIPE = Recipe(
    epochs=4, batch_size=32, learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3,
    decay="step", milestones=[2], gamma=0.1, warmup=0, label_smoothing=0.0, precision="float32",
    compile=False,
)  # fmt: skip


def built() -> nn.Module:
    """Features with a batch norm, dropout before the classifier, a classifier of two layers."""
    features = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
    )
    classifier = nn.Sequential(
        nn.Dropout(0.2), nn.Linear(288, 16), nn.ReLU(inplace=True), nn.Linear(16, 3)
    )
    layers = {
        "features": features,
        "flat": nn.Flatten(),
        "drop": nn.Dropout(0.5),
        "classifier": classifier,
    }
    return nn.Sequential(OrderedDict(layers))


def network() -> nn.Module:
    return normalise_inputs(seeded(built), (0.2,), (0.3,))


def trained(images, context, names=("classifier",), recipe=RECIPE, model=None):
    model = model or network()
    losses = fit_alone(model, list(names), images, recipe, [0], context)
    return model, losses


def changed(model: nn.Module) -> set[str]:
    before = network().state_dict()
    return {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize("flip", [False, True])
def test_the_named_modules_learn_and_nothing_else_changes(images, context, flip):
    """Running means of batch norms included; with a transform the frozen part runs every epoch."""
    model, losses = trained(replace(images, flip=flip), context)
    assert changed(model) == {
        f"classifier.{n}.{part}" for n in (1, 3) for part in ("weight", "bias")
    }
    assert losses[-1] < losses[0] and len(losses) == RECIPE.epochs
    assert all(p.requires_grad for p in model.parameters())
    right = predict(model.eval(), images)[0] == images.labels
    assert right.double().mean() > 0.9


def test_one_layer_of_a_classifier_can_start_alone(images, context):
    model, _ = trained(images, context, ["classifier.3"])
    assert changed(model) == {"classifier.3.weight", "classifier.3.bias"}


def test_what_is_computed_once_trains_as_what_is_computed_every_epoch(images, context, monkeypatch):
    once, losses = trained(images, context)
    monkeypatch.setattr(alone, "KEPT", 0)
    anew, others = trained(images, context)
    assert losses == pytest.approx(others, rel=1e-5)
    for name, value in once.state_dict().items():
        torch.testing.assert_close(value, anew.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_without_a_transform_the_frozen_part_runs_once_over_the_images(images, context):
    model, seen = network(), []
    model.features.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    trained(images, context, model=model)
    assert sum(seen) < 2 * len(images)  # once, and a few images to look at
    seen.clear()
    trained(replace(images, flip=True), context, model=model)
    assert sum(seen) >= (len(images) // RECIPE.batch_size) * RECIPE.batch_size * RECIPE.epochs


def test_it_trains_what_training_everything_with_the_rest_frozen_would(images, context):
    """Against the whole network under autograd, written out by hand for two steps."""
    recipe = replace(
        RECIPE,
        epochs=1,
        milestones=[],
        batch_size=150,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
    )
    model = network()
    model.classifier[0] = nn.Dropout(0.0)
    own, _ = trained(images, context, ["classifier.3"], recipe, model)
    other = network().eval()
    order = torch.from_numpy(np.random.default_rng([0, 0]).permutation(300))
    weight, bias = other.classifier[3].weight, other.classifier[3].bias
    for batch in order.split(150):
        loss = nn.functional.cross_entropy(
            other(images.pixels[batch].float() / 255), images.labels[batch]
        )
        slopes = torch.autograd.grad(loss, [weight, bias])
        with torch.no_grad():
            for p, slope in zip((weight, bias), slopes, strict=True):
                p -= recipe.learning_rate * slope
    torch.testing.assert_close(own.classifier[3].weight, weight, rtol=1e-4, atol=1e-6)


def test_new_modules_alone_go_into_training_mode():
    model = network()
    Alone(model, [model.classifier]).train()
    assert (
        model.classifier[0].training and not model.drop.training and not model.features[1].training
    )


class Squeezed(nn.Module):
    """Its output is made of that of a convolution, as in squeezenet."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.out(self.features(x).relu()).mean((2, 3))


def test_the_end_of_a_network_gives_its_output_or_is_the_whole_of_it(images, context):
    x, model = images.pixels[:2].float(), network()
    assert ending(model, ["classifier.1", "classifier.3"], x) is model.classifier
    assert ending(model, ["classifier.3"], x) is model.classifier[3]
    assert ending(model, ["features.0", "classifier"], x) is model
    squeezed = normalise_inputs(seeded(Squeezed), (0.0,), (1.0,))
    assert ending(squeezed, ["out"], x) is squeezed
    before = squeezed.features.weight.clone()
    fit_alone(squeezed, ["out"], images, RECIPE, [0], context)
    assert torch.equal(squeezed.features.weight, before)


@pytest.mark.parametrize("name, head", [("resnet18", "fc"), ("mobilenet_v2", "classifier")])
def test_classifiers_of_torchvision_are_ends(name, head):
    model = seeded(lambda: models.get_model(name, num_classes=3))
    assert ending(model, [head], torch.zeros(2, 3, 32, 32)) is model.get_submodule(head)


def test_a_training_in_bfloat16_goes_as_well(images, context):
    model, losses = trained(images, context, recipe=replace(RECIPE, precision="bfloat16"))
    assert losses[-1] < losses[0]
    assert changed(model) == {
        f"classifier.{n}.{part}" for n in (1, 3) for part in ("weight", "bias")
    }
