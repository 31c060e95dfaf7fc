"""The layers of a network: which there are, which can be handled, how masks are laid on them."""

from copy import deepcopy

import pytest
import torch
from networks import PIXELS, residual, seeded
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mint_cli.errors import DataError, SettingError
from mint_cli.model.lenet5 import lenet5
from mint_cli.model.mlp import mlp
from mint_cli.network import layers as la
from mint_cli.network.layers import normalise_inputs, prunable_layers, record
from mint_cli.protocol import Images

GREY = (1, 28, 28)


@pytest.fixture
def grey() -> Images:
    pixels = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    return Images(pixels, torch.arange(40) % 10)


@pytest.fixture
def lenet():
    return normalise_inputs(lenet5(GREY, 10), (0.5,), (0.25,)).eval()


def test_normalisation_travels_with_the_state_of_the_network(lenet, grey):
    other = normalise_inputs(lenet5(GREY, 10), (0.0,), (1.0,)).eval()
    other.load_state_dict(lenet.state_dict())
    x = grey.pixels.float() / 255
    assert torch.equal(lenet(x), other(x))
    bare = deepcopy(lenet)
    bare._forward_pre_hooks.clear()
    torch.testing.assert_close(lenet(x), bare((x - 0.5) / 0.25))


def test_masks_zero_exactly_the_weights_they_name(lenet):
    mask, rows = torch.rand(16, 6) < 0.5, torch.arange(120) % 2 == 0
    before = {name: p.detach().clone() for name, p in lenet.named_parameters()}
    la.apply_masks(lenet, {"conv2.weight": mask, "fc1.bias": rows})
    assert torch.equal(lenet.conv2.weight[mask], before["conv2.weight"][mask])
    assert (lenet.conv2.weight[~mask] == 0).all() and (lenet.fc1.bias[~rows] == 0).all()
    assert torch.equal(lenet.fc1.bias[rows], before["fc1.bias"][rows])
    assert torch.equal(lenet.fc1.weight, before["fc1.weight"])


def test_a_mask_also_removes_numbers_that_are_not_finite(lenet):
    with torch.no_grad():
        lenet.conv2.weight[0, 0] = float("nan")
    la.apply_masks(lenet, {"conv2.weight": torch.arange(96).view(16, 6) > 0})
    assert (lenet.conv2.weight[0, 0] == 0).all() and lenet.conv2.weight.isfinite().all()


def test_a_record_tells_shape_positions_and_calls_of_every_layer(lenet):
    layers = record(lenet, GREY)
    told = {n: (x.kind, x.shape, x.positions, x.calls) for n, x in layers.items()}
    assert told["conv1"] == ("Conv2d", (6, 1, 5, 5), 784, 1)
    assert told["conv2"] == ("Conv2d", (16, 6, 5, 5), 100, 1)
    assert told["fc1"] == ("Linear", (120, 400), 1, 1)
    assert list(layers) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert not any(layer.refusals or layer.blind for layer in layers.values())
    assert not lenet.training and all(p.grad is None for p in lenet.parameters())


class Late(nn.Module):
    """Defines first what it calls last, as torchvision does with the convolutions of shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.first = nn.Linear(4, 3), nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.out(self.first(x).mean((2, 3)))


def test_layers_come_in_the_order_in_which_a_pass_calls_them():
    assert list(record(Late(), PIXELS)) == ["first", "out"]


class Grouped(nn.Module):
    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.odd = nn.Conv2d(4, 4, 3, groups=groups)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.odd(self.first(x)).mean((2, 3)))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.odd = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.odd(self.odd(self.first(x)).relu()).mean((2, 3)))


class Shared(Twice):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(4, 4, 3)
        self.again.weight = self.odd.weight

    def forward(self, x):
        return self.out(self.again(self.odd(self.first(x)).relu()).mean((2, 3)))


class Tied(nn.Module):
    """A linear layer whose weight is an embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 64)
        self.odd = nn.Linear(64, 3, bias=False)
        self.odd.weight = self.table.weight

    def forward(self, x):
        return self.odd(x.flatten(1) + self.table.weight[0])


class Normed(Twice):
    def __init__(self) -> None:
        super().__init__()
        weight_norm(self.odd)


class NormedByHook(Twice):
    def __init__(self) -> None:
        super().__init__()
        torch.nn.utils.spectral_norm(self.odd)


class Unused(Twice):
    def forward(self, x):
        return self.out(self.first(x).mean((2, 3)))


class Bypassed(Twice):
    """Its weight is used, but not by the layer."""

    def forward(self, x):
        y = nn.functional.conv2d(self.first(x), self.odd.weight)
        return self.out(y.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = x[:, 0]
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))


class TokensFirst(nn.Module):
    """Rows of the layer are tokens, of which there are as many as recorded images."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.odd, self.out = nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.odd(x[:, 0, : self.tokens].transpose(0, 1)).mean(0))


class Flattened(nn.Module):
    """Rows of the layer are tokens of all images."""

    def __init__(self) -> None:
        super().__init__()
        self.odd, self.out = nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.odd(x.reshape(-1, 8)).view(len(x), 8, 4).mean(1))


REFUSED = {
    "a weight of two layers": (Shared, "odd, again", "shares its weight with again"),
    "a weight of a layer and an embedding": (Tied, "odd", "shares its weight with table"),
    "weight norm": (Normed, "odd", "computed from other parameters"),
    "spectral norm": (NormedByHook, "odd", "computed from other parameters"),
    "not called": (Unused, "odd", "the forward pass never calls it"),
    "used elsewhere": (Bypassed, "odd", "the forward pass never calls it"),
    "attention": (Attention, "attention.out_proj", "the forward pass never calls it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_layers_that_cannot_be_masked_are_refused_by_name_with_the_reason(case):
    build, names, reason = REFUSED[case]
    layers = record(seeded(build), PIXELS)
    wanted = rf"^skip must leave alone {names}; layer .* cannot be pruned: .*{reason}"
    with pytest.raises(SettingError, match=wanted):
        prunable_layers(layers, [])
    left = prunable_layers(layers, names.split(", ")) if build is not Tied else {"a": None}
    assert left and not set(names.split(", ")) & set(left)


BLIND = {
    "grouped": (Grouped, r"it is a grouped convolution \(groups=2\)"),
    "depthwise": (lambda: Grouped(4), r"it is a grouped convolution \(groups=4\)"),
    "called twice": (Twice, "one forward pass calls it 2 times"),
    "as many tokens as images": (lambda: TokensFirst(2), "the rows that enter it are not images"),
    "as many tokens as other images": (
        lambda: TokensFirst(3),
        "the rows that enter it are not images",
    ),
    "tokens of all images": (Flattened, "the rows that enter it are not images"),
}


@pytest.mark.parametrize("case", BLIND)
def test_layers_that_can_be_masked_but_not_judged_by_their_inputs_say_why(case):
    build, reason = BLIND[case]
    layers = record(seeded(build), PIXELS)
    assert "odd" in prunable_layers(layers, [])
    assert [name for name, layer in layers.items() if layer.blind] == ["odd"]
    with pytest.raises(
        SettingError, match=rf"skip must leave alone odd; layer odd cannot be judged: {reason}"
    ):
        la.refuse("skip", {name: layer.blind for name, layer in layers.items()}, "cannot be judged")


def test_linear_layers_on_tokens_have_tokens_for_positions():
    model = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), nn.Flatten(), nn.Linear(10, 3))
    layers = record(model, (2, 8, 8))
    assert [(layers[n].positions, layers[n].blind) for n in ("1", "3")] == [(2, ()), (1, ())]


def test_skipped_layers_are_left_out_by_name_and_pattern_and_unknown_ones_refused():
    layers = record(mlp(GREY, 10, hidden=[500, 300], dropout=0.2), GREY)
    assert list(prunable_layers(layers, ["fc1", "fc3"])) == ["fc2"]
    assert list(prunable_layers(layers, ["fc[12]"])) == ["fc3"]
    with pytest.raises(
        SettingError, match=r"^skip must name layers of the network \(fc1, fc2, fc3\), not fc4"
    ):
        prunable_layers(layers, ["fc4"])
    with pytest.raises(SettingError, match="skip leaves no layer to prune"):
        prunable_layers(layers, ["fc*"])


def table(**modules: nn.Module) -> nn.Module:
    return nn.ModuleDict(modules)


COUNTED = {
    "no biases, no norms": (table(a=nn.Conv2d(2, 3, 3), b=nn.BatchNorm2d(3)), {"a.weight": 54}),
    "any dimension": (
        table(a=nn.Conv1d(2, 3, 5), b=nn.Conv3d(1, 2, 3)),
        {"a.weight": 30, "b.weight": 54},
    ),
    "transposed": (table(a=nn.ConvTranspose2d(2, 3, 4)), {"a.weight": 96}),
    "grouped": (table(a=nn.Conv2d(4, 4, 3, groups=4)), {"a.weight": 36}),
    "lone weights": (
        table(a=nn.Linear(1, 1), b=nn.Conv1d(1, 1, 1)),
        {"a.weight": 1, "b.weight": 1},
    ),
    "attention": (
        table(a=nn.MultiheadAttention(4, 2)),
        {"a.in_proj_weight": 48, "a.out_proj.weight": 16},
    ),
    "embedding": (table(a=nn.Embedding(5, 4)), {"a.weight": 20}),
    "recurrent": (table(a=nn.GRU(2, 3)), {"a.weight_ih_l0": 18, "a.weight_hh_l0": 27}),
    "weight norm": (
        table(a=weight_norm(nn.Conv2d(2, 3, 3))),
        {"a.parametrizations.weight.original1": 54},
    ),
    "shared, once": (Shared(), {"first.weight": 36, "odd.weight": 144, "out.weight": 12}),
    "called twice, once": (Twice(), {"first.weight": 36, "odd.weight": 144, "out.weight": 12}),
}


@pytest.mark.parametrize("case", COUNTED)
def test_all_weights_are_those_of_every_convolution_linear_layer_and_other_matrix(case):
    model, wanted = COUNTED[case]
    assert la.weight_counts(model) == wanted


def test_of_our_own_networks_all_weights_are_those_of_their_layers(lenet):
    assert la.weight_counts(lenet) == {
        f"{name}.weight": layer.weight.numel() for name, layer in la.weighted_layers(lenet).items()
    }


def test_batch_norms_are_those_that_keep_statistics():
    model = table(
        a=nn.BatchNorm2d(3), b=nn.BatchNorm1d(3, track_running_stats=False), c=nn.LayerNorm(3)
    )
    assert list(la.batch_norms(model)) == ["a"]


def test_inference_takes_no_gradients_and_gives_the_mode_back_even_after_an_error():
    model = residual().train()
    with pytest.raises(RuntimeError), la.inference(model):
        assert not model.training and not torch.is_grad_enabled()
        raise RuntimeError
    assert model.training and torch.is_grad_enabled()


def test_frozen_parameters_want_no_gradient_and_afterwards_those_that_did_want_one_again():
    model = residual()
    model.stem.bias.requires_grad_(False)
    with la.frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["stem.bias"]


def test_a_network_that_overwrites_what_its_gradients_are_made_of_is_told_in_one_sentence():
    x = torch.rand(3, requires_grad=True)
    y = x.exp()
    with (
        pytest.raises(DataError, match="the network has no gradients: it changes in place"),
        la.differentiated(),
    ):
        y += 1
        y.sum().backward()
    with pytest.raises(RuntimeError, match="another"), la.differentiated():
        raise RuntimeError("another")


def test_a_hook_sees_input_and_output_given_by_place_or_name_and_may_replace_the_output():
    model, seen = Grouped(), []
    for call in (
        lambda: model.first(torch.ones(1, 1, 4, 4)),
        lambda: model.first(input=torch.ones(1, 1, 4, 4)),
    ):
        with la.hooked(model, ["first"], lambda n, x, y: seen.append((n, x.shape)) or y * 0):
            assert not call().any()
        assert call().any()
    assert seen == [("first", (1, 1, 4, 4))] * 2


def test_a_hook_before_a_layer_is_called_before_every_pass_of_it():
    model, seen = Twice(), []
    with la.hooked_before(model, ["odd", "out"], seen.append):
        model(torch.zeros(1, 1, 8, 8))
    model(torch.zeros(1, 1, 8, 8))
    assert seen == ["odd", "odd", "out"]
