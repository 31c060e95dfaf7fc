"""Passes that go on from a cut give the bits of passes from the pixels."""

import pytest
import torch
from torch import nn

from mint_cli.network import replay
from mint_cli.model.resnet56 import resnet56
from mint_cli.model.vgg16 import vgg16
from mint_cli.network.layers import inference, passage, weighted_layers


@pytest.fixture(params=[resnet56, vgg16])
def model(request) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return request.param((3, 32, 32), 10).eval()


def batches(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(size, 3, 32, 32, generator=generator) for size in sizes]


def same(found, wanted) -> bool:
    pairs = [(found.entering, wanted.entering), (found.leaving, wanted.leaving), (found.added, wanted.added)]
    return found.norm == wanted.norm and all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def test_layer_after_layer_every_passage_is_that_from_the_pixels_for_unequal_batches_too(model):
    layers, images = list(weighted_layers(model))[1::5], batches(3, 3, 2)
    walk = replay.Walk(model, layers)
    with inference(model):
        for layer in layers:
            for i, x in enumerate(images):
                assert same(walk.passage(layer, i, len(images), x), passage(model, layer, x))


def test_what_lies_before_the_cut_is_not_computed_again_and_a_changed_layer_after_it_is(model):
    layers, (x,) = list(weighted_layers(model))[2:12:3], batches(2)
    walk, modules = replay.Walk(model, layers), weighted_layers(model)
    computed = []

    def note(name, output):
        with torch._C.DisableTorchFunction():  # else the question itself is one of the calls that are replayed
            computed.append((name, output.device.type))

    for name, module in modules.items():
        module.register_forward_hook(lambda m, args, output, name=name: note(name, output))
    with inference(model):
        walk.passage(layers[0], 0, 1, x)
        modules[layers[0]].weight.mul_(0.5)
        computed.clear()
        found = walk.passage(layers[1], 0, 1, x)
        ran = [name for name, device in computed if device == "cpu"]
        assert ran[0] == layers[0] and ran[-1] == layers[1] and len(ran) == 4
        assert same(found, passage(model, layers[1], x))


def test_layers_in_another_order_than_they_run_in_start_again(model):
    layers, (x,) = list(weighted_layers(model))[2:12:3], batches(2)
    walk = replay.Walk(model, layers)
    with inference(model):
        for layer in reversed(layers):
            assert same(walk.passage(layer, 0, 1, x), passage(model, layer, x))


def test_a_cut_above_the_budget_is_not_kept_and_changes_nothing(model, monkeypatch):
    monkeypatch.setattr(replay, "BUDGET", 0)
    layers, (x,) = list(weighted_layers(model))[2:12:3], batches(2)
    walk = replay.Walk(model, layers)
    with inference(model):
        for layer in layers:
            assert same(walk.passage(layer, 0, 1, x), passage(model, layer, x))
    assert walk._cuts[0].saved == {}
