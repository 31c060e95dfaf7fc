"""Passes that go on from a cut give the bits of passes from the pixels."""

import pytest
import torch
from networks import ADDITIONS, RELUS, residual, resnet56, seeded
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, shufflenet_v2_x0_5

from mint_cli.model.vgg16 import vgg16
from mint_cli.network import replay
from mint_cli.network.layers import inference, record, weighted_layers
from mint_cli.network.observe import passage


@pytest.fixture(params=[resnet56, vgg16])
def model(request) -> nn.Module:
    return seeded(lambda: request.param((3, 32, 32), 10))


def batches(*sizes: int, pixels=(3, 32, 32)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(size, *pixels, generator=generator) for size in sizes]


def same(found, wanted) -> bool:
    pairs = [(getattr(found, p), getattr(wanted, p)) for p in ("entering", "leaving", "added")]
    equal = all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)
    return found.norm == wanted.norm and equal


def walked(model, layers, images, walk=None) -> replay.Walk:
    """Walk through the layers and compare every passage with that from the pixels."""
    walk = walk or replay.Walk(model, layers)
    with inference(model):
        for layer in layers:
            for i, x in enumerate(images):
                assert same(walk.passage(layer, i, len(images), x), passage(model, layer, x)), layer
    return walk


def test_layer_after_layer_every_passage_is_that_from_the_pixels_for_unequal_batches_too(model):
    walked(model, list(weighted_layers(model))[1::5], batches(3, 3, 2))


def test_what_lies_before_the_cut_is_not_computed_again_and_a_changed_layer_after_it_is(model):
    layers, (x,) = list(weighted_layers(model))[2:12:3], batches(2)
    walk, modules = replay.Walk(model, layers), weighted_layers(model)
    computed = []

    def note(name, output):
        with torch._C.DisableTorchFunction():  # else the question itself is a call to be replayed
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
    layers = list(weighted_layers(model))[2:12:3]
    walked(model, layers[::-1], batches(2), replay.Walk(model, layers))


def test_a_cut_above_the_budget_is_not_kept_and_changes_nothing(model, monkeypatch):
    monkeypatch.setattr(replay, "BUDGET", 0)
    walk = walked(model, list(weighted_layers(model))[2:12:3], batches(2))
    assert walk._cuts[0].saved == {}


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_of_networks_that_work_in_place_passages_are_those_from_the_pixels(relu, add):
    walk = walked(
        residual(relu, add), ["stem", "inner", "outer", "out"], batches(3, 2, pixels=(1, 8, 8))
    )
    assert walk._cuts[0].start > 0


class Aliased(nn.Module):
    """A view made before a cut is written through after it, and what it is a view of is
    read again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)
        self.third, self.out = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x)
        half = x[:, :2]
        y = self.second(x)
        half.mul_(2.0)
        z = self.third(y + x)
        half.add_(1.0)
        return self.out((z + x).mean((2, 3)))


class Chunked(nn.Module):
    """Blocks of ShuffleNet: half of the channels pass by, the other half goes through
    convolutions.
    """

    def __init__(self, cut, in_place: bool) -> None:
        super().__init__()
        self.cut, self.in_place = cut, in_place
        self.stem, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)
        self.a = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))
        self.b = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        x = self.stem(x)
        for a, b in zip(self.a, self.b, strict=True):
            left, right = self.cut(x)
            right = b(F.relu(a(right), inplace=self.in_place))
            x = torch.cat([left, F.relu(right, inplace=self.in_place)], 1)
            x = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.out(x.mean((2, 3)))


CUTS = {
    "torch.chunk": lambda x: torch.chunk(x, 2, 1),
    "chunk": lambda x: x.chunk(2, dim=1),
    "split": lambda x: x.split([4, 4], 1),
    "torch.split": lambda x: torch.split(x, 4, 1),
    "slices": lambda x: (x[:, :4], x[:, 4:]),
}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_is_cut_in_pieces_comes_back_in_pieces(cut, in_place):
    model = seeded(lambda: Chunked(cut, in_place))
    walk = walked(model, list(record(model, (1, 8, 8))), batches(3, 2, pixels=(1, 8, 8)))
    assert walk._cuts[0].start > 0


def test_what_is_written_through_a_view_after_the_cut_is_seen_by_what_it_is_a_view_of():
    walk = walked(
        seeded(Aliased), ["first", "second", "third", "out"], batches(3, pixels=(1, 8, 8))
    )
    assert walk._cuts[0].start > 0


class Reading(nn.Module):
    """What comes after the stem depends on a number that ``read`` takes from its output."""

    def __init__(self, read) -> None:
        super().__init__()
        self.read = read
        self.stem, self.first = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.second, self.out = nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        number = self.read(x)
        x = self.second(self.first(x).relu() * number)
        return self.out(x.mean((2, 3)))


READS = {
    "item": lambda x: x.max().item(),
    "tolist": lambda x: x.amax((1, 2, 3)).tolist()[0],
    "float": lambda x: float(x.min()),
    "int": lambda x: int(x.max() * 100),
    "a condition": lambda x: 2.0 if x.std((2, 3)).max() > 0.01 else 3.0,
    "equal": lambda x: 1.0 + torch.equal(x, x[:, :, :1, :1].expand_as(x)),
    "allclose": lambda x: 1.0 + torch.allclose(x, x[:, :, :1, :1].expand_as(x)),
    "numpy": lambda x: float(x.numpy().mean()),
    "how many by a mask": lambda x: float(len(x[x > 0.1])),
    "how many by masked_select": lambda x: float(x.masked_select(x > 0.1).numel()),
    "how many by nonzero": lambda x: float((x > 0.1).nonzero().shape[0]),
    "how many by where": lambda x: float(len(torch.where(x > 0.1)[0])),
    "how many by unique": lambda x: float(len(torch.unique((x * 9).round()))),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_numbers_that_are_read_from_images_are_those_of_the_images_at_hand(read):
    """The tape is recorded on noise, and the second batch, of the same shape, is black."""
    model, (noise,) = seeded(lambda: Reading(read)), batches(3, pixels=(1, 8, 8))
    images = [noise, torch.zeros_like(noise)]
    first, second = (read(model.stem(x).detach()) for x in images)
    assert first != second
    walked(model, ["stem", "first", "second", "out"], images)


@pytest.mark.parametrize("build", [resnet18, shufflenet_v2_x0_5])
def test_torchvisions_networks_walk_as_they_pass_from_the_pixels(build):
    model = seeded(lambda: build(num_classes=4))
    layers = list(record(model, (3, 32, 32)))
    walk = walked(model, layers[1 :: max(1, len(layers) // 9)], batches(2, pixels=(3, 32, 32)))
    assert walk._cuts[0].start > 0


def test_a_network_that_stands_still_runs_no_layer_twice(model):
    layers, (x,) = list(weighted_layers(model))[2:6], batches(2)
    walk = replay.Walk(model, layers, still=True)
    with inference(model):
        wanted = [passage(model, layer, x) for layer in layers]
        for layer, passed in zip(layers, wanted, strict=True):
            assert same(walk.passage(layer, 0, 1, x), passed)
        start = replay.tape(model, layers, x).calls
    assert walk._cuts[0].start == start[layers[-1]] + 1  # the last layer's own output is kept


def test_a_layer_is_not_computed_where_its_output_is_given(model):
    layers, (x,) = list(weighted_layers(model))[2:5], batches(2)
    walk = replay.Walk(model, layers)
    with inference(model):
        for layer in layers:
            wanted = passage(model, layer, x)
            given = torch.full_like(wanted.leaving, 7.0)
            found = walk.passage(layer, 0, 1, x, given)
            assert torch.equal(found.entering, wanted.entering) and found.leaving is given
            assert found.added is None or torch.equal(found.added, wanted.added)
