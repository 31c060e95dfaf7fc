"""What enters and leaves layers, against direct computation, also where networks work in place."""

import numpy as np
import pytest
import torch
from networks import ADDITIONS, RELUS, Residual, residual, seeded
from torch import nn
from torch.nn import functional as F

from mint_cli.errors import DataError
from mint_cli.model.lenet5 import lenet5
from mint_cli.network import observe as ob
from mint_cli.network.layers import normalise_inputs, weighted_layers
from mint_cli.protocol import Images

LAYERS = ["stem", "inner", "outer", "out"]


@pytest.fixture
def grey() -> Images:
    pixels = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    return Images(pixels, torch.arange(40) % 10)


@pytest.fixture
def noise() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (50, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(50) % 3)


@pytest.fixture
def lenet():
    return normalise_inputs(lenet5((1, 28, 28), 10), (0.5,), (0.25,)).eval()


def test_activations_are_each_layers_own_input_and_output_of_the_same_images(lenet, grey):
    index = torch.tensor([3, 1, 7])
    parent, child = ob.activations(lenet, ["conv2", "fc1"], grey, index, batch_size=2)["conv2"]
    x = (grey.pixels[index].float() / 255 - 0.5) / 0.25
    entering = lenet.pool1(lenet.relu1(lenet.conv1(x)))
    torch.testing.assert_close(parent, entering.mean((2, 3)).detach())
    torch.testing.assert_close(child, lenet.conv2(entering).mean((2, 3)).detach())


def test_patches_times_weights_give_the_output_at_their_position(lenet, grey):
    rng = np.random.default_rng(0)
    found = ob.patches(lenet, ["conv1", "conv2", "fc2"], grey, torch.arange(20), rng, batch_size=8)
    for name, (parent, child) in found.items():
        module = weighted_layers(lenet)[name]
        made = parent @ module.weight.detach().flatten(1).T + module.bias.detach()
        torch.testing.assert_close(made, child, atol=1e-4, rtol=1e-4)


def conv(*arguments, **settings) -> nn.Conv2d:
    return nn.Conv2d(3, 5, *arguments, **settings)


MODES = ("zeros", "reflect", "circular", "replicate")
MODULES = {
    "plain": (conv(3), (3, 7, 6)),
    "strides, dilation": (conv((3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 2)), (3, 9, 7)),
    "without bias": (conv(3, padding=1, bias=False), (3, 7, 6)),
    "valid": (conv(3, padding="valid"), (3, 7, 6)),
    **{f"{mode} 1": (conv(3, padding=1, padding_mode=mode), (3, 7, 6)) for mode in MODES},
    **{
        f"{mode} 2, 1": (conv((5, 3), padding=(2, 1), padding_mode=mode), (3, 7, 6))
        for mode in MODES
    },
    **{
        f"{mode} same": (conv((3, 4), padding="same", padding_mode=mode), (3, 7, 6))
        for mode in MODES
    },
    "linear": (nn.Linear(6, 5), (6,)),
    "linear on tokens": (nn.Linear(6, 5), (4, 6)),
    "linear on as many tokens as channels": (nn.Linear(6, 5), (6, 6)),
    "linear on a map": (nn.Linear(6, 5), (3, 4, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", MODULES)
def test_a_layers_patches_times_its_flat_weight_are_its_outputs_position_by_position(case):
    module, shape = MODULES[case]
    x = torch.rand(2, *shape)
    with torch.no_grad():
        patches, outputs = ob.patches_of(module, x), ob.outputs_of(module, module(x))
    made = torch.einsum("ok,nkp->nop", module.weight.detach().flatten(1), patches)
    made = made + (0 if module.bias is None else module.bias.detach()[:, None])
    torch.testing.assert_close(made, outputs, atol=1e-5, rtol=1e-5)
    positions = (
        outputs.shape[2] if isinstance(module, nn.Conv2d) else torch.Size(shape[:-1]).numel()
    )
    assert patches.shape == (2, module.weight[0].numel(), positions)


def test_channel_means_are_taken_over_positions_and_have_memory_of_their_own():
    x = torch.rand(2, 6, 6)
    means = ob.channel_means(nn.Linear(6, 5), x)
    torch.testing.assert_close(means, x.mean(1))
    single = torch.rand(2, 6)
    kept = ob.channel_means(nn.Linear(6, 5), single)
    single.zero_()
    assert kept.all()


def test_reestimated_statistics_are_those_of_the_images_in_inference_mode():
    model = normalise_inputs(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), (0.0,), (1.0,)
    ).eval()
    grey = Images(torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8), torch.zeros(60).long())
    ob.reestimate_batch_norm(model, grey, 60, np.random.default_rng(0), batch_size=25)
    out = model[0](grey.pixels.float() / 255)
    torch.testing.assert_close(
        model[1].running_mean, out.mean((0, 2, 3)).detach(), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        model[1].running_var, out.var((0, 2, 3)).detach(), atol=1e-5, rtol=0.05
    )
    assert not model[1].training and model[1].momentum == 0.1


def test_channels_that_bfloat16_cannot_tell_from_constants_get_a_variance_of_one():
    model = nn.Sequential(nn.BatchNorm1d(3))
    model[0].running_mean.copy_(torch.tensor([1.0, 1.0, 0.0]))
    model[0].running_var.copy_(torch.tensor([1e-6, 1e-2, 1e-6]))
    ob.settle_constant_channels(model)
    torch.testing.assert_close(model[0].running_var, torch.tensor([1.0, 1e-2, 1e-6]))


def test_a_passage_names_the_norm_and_the_shortcut_that_an_output_meets_first(noise):
    model, x = residual(), noise.pixels[:4].float() / 255
    with torch.no_grad():
        found = {name: ob.passage(model, name, x) for name in LAYERS}
        stem = F.relu(model.stem((x - 0.5) / 0.25))
        inner = F.relu(model.inner_norm(model.inner(stem)))
    assert {n: p.norm for n, p in found.items()} == {
        "stem": None, "inner": "inner_norm", "outer": "outer_norm", "out": None,
    }  # fmt: skip
    assert [n for n, p in found.items() if p.added is not None] == ["outer"]
    torch.testing.assert_close(found["outer"].added, F.avg_pool2d(stem, 2))
    torch.testing.assert_close(found["outer"].entering, inner)
    torch.testing.assert_close(found["outer"].leaving, model.outer(inner).detach())


IN_PLACE = [(r, a) for r in RELUS for a in ADDITIONS]


@pytest.mark.parametrize(("relu", "add"), IN_PLACE)
def test_networks_that_work_in_place_show_the_activations_of_those_that_do_not(relu, add, noise):
    plain, model, index = residual(), residual(RELUS[relu], ADDITIONS[add]), torch.arange(20)
    x = noise.pixels[:20].float() / 255
    assert torch.equal(model(x), plain(x))
    wanted, found = (ob.activations(m, LAYERS, noise, index) for m in (plain, model))
    assert all(torch.equal(a, b) for n in LAYERS for a, b in zip(wanted[n], found[n], strict=True))
    wanted, found = (
        ob.patches(m, LAYERS, noise, index, np.random.default_rng(3)) for m in (plain, model)
    )
    assert all(torch.equal(a, b) for n in LAYERS for a, b in zip(wanted[n], found[n], strict=True))


@pytest.mark.parametrize(("relu", "add"), IN_PLACE)
def test_networks_that_work_in_place_have_the_passages_of_those_that_do_not(relu, add, noise):
    plain, model, x = residual(), residual(RELUS[relu], ADDITIONS[add]), noise.pixels[:4] / 255
    with torch.no_grad():
        for name in LAYERS:
            wanted, found = ob.passage(plain, name, x), ob.passage(model, name, x)
            assert found.norm == wanted.norm and (found.added is None) == (wanted.added is None)
            for part in ("entering", "leaving", "added"):
                if getattr(wanted, part) is not None:
                    assert torch.equal(getattr(found, part), getattr(wanted, part))


@pytest.mark.parametrize(("relu", "add"), IN_PLACE)
def test_networks_that_work_in_place_have_the_jacobians_of_those_that_do_not(relu, add, noise):
    plain, model, x = residual(), residual(RELUS[relu], ADDITIONS[add]), noise.pixels[:4] / 255
    wanted, found = (
        ob.jacobians(m, LAYERS, x, torch.Generator().manual_seed(2)) for m in (plain, model)
    )
    assert list(wanted) == LAYERS == list(found)
    for name in LAYERS:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-7)


class ReadThenChanged(nn.Module):
    """What the inner layer reads is rectified in place afterwards, for the layer that reads it
    next.
    """

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.stem, self.inner = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
        self.outer, self.out = nn.Conv2d(4, 5, 3), nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x)
        y = self.inner(x)
        z = F.relu_(x) if self.in_place else F.relu(x)
        return self.out((y + self.outer(z)).mean((2, 3)))


def test_an_input_that_is_changed_in_place_after_a_layer_has_read_it_is_seen_as_it_was_read(noise):
    plain, model = (seeded(lambda: ReadThenChanged(i)) for i in (False, True))  # noqa: B023
    layers, x, index = ["stem", "inner", "outer", "out"], noise.pixels[:6] / 255, torch.arange(6)
    wanted, found = (ob.activations(m, layers, noise, index) for m in (plain, model))
    assert all(torch.equal(a, b) for n in layers for a, b in zip(wanted[n], found[n], strict=True))
    with torch.no_grad():
        for name in layers:
            one, other = ob.passage(plain, name, x), ob.passage(model, name, x)
            assert torch.equal(one.entering, other.entering) and torch.equal(
                one.leaving, other.leaving
            )
            assert (one.added is None) == (other.added is None)
    one, other = (
        ob.jacobians(m, layers, x, torch.Generator().manual_seed(2)) for m in (plain, model)
    )
    assert all(torch.equal(one[name], other[name]) for name in layers)


class Uses(nn.Module):
    """One convolution, then whatever ``use`` does with its output and a shortcut of the
    same shape.
    """

    def __init__(self, use) -> None:
        super().__init__()
        self.use = use
        self.conv, self.norm, self.other = (
            nn.Conv2d(1, 1, 1, bias=False),
            nn.BatchNorm2d(1),
            nn.BatchNorm2d(1),
        )
        self.bare = nn.BatchNorm2d(1, track_running_stats=False)

    def forward(self, x):
        return self.use(self, self.conv(x), x)


USES = {
    "added": (lambda m, y, x: y + x, None, True),
    "added to": (lambda m, y, x: x + y, None, True),
    "torch.add": (lambda m, y, x: torch.add(x, y), None, True),
    "added after a norm": (lambda m, y, x: x + m.norm(y), "norm", True),
    "added in shares": (lambda m, y, x: torch.add(x, y, alpha=0.5), None, False),
    "a number added": (lambda m, y, x: y + 1, None, False),
    "a row added": (lambda m, y, x: y + x[:1], None, False),
    "added to itself": (lambda m, y, x: y + y, None, False),
    "multiplied": (lambda m, y, x: y * x, None, False),
    "rectified, then added": (lambda m, y, x: F.relu(y) + x, None, False),
    "two norms": (lambda m, y, x: x + m.other(m.norm(y)), "norm", False),
    "a norm of this batch": (lambda m, y, x: x + m.bare(y), None, False),
    "a norm by hand": (lambda m, y, x: x + F.batch_norm(y, None, None, training=True), None, False),
    "joined, then added": (lambda m, y, x: torch.cat([y, x]).sum() + (y + x), None, False),
    "cut, then added": (lambda m, y, x: y.chunk(2, 2)[0].sum() + (y + x), None, False),
    "measured, then added": (lambda m, y, x: y * 0 if y.dim() < 0 else y + x, None, True),
}  # fmt: skip


@pytest.mark.parametrize("case", USES)
def test_only_the_first_use_of_an_output_counts_and_only_if_it_is_a_plain_sum(case):
    use, norm, added = USES[case]
    model, x = seeded(lambda: Uses(use)), torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        found = ob.passage(model, "conv", x)
    assert found.norm == norm and (found.added is not None) is added
    assert found.added is None or torch.equal(found.added, x)
    torch.testing.assert_close(found.leaving, x * model.conv.weight.detach())


def test_a_passage_ends_where_the_output_is_used_first(noise):
    model, ran = residual(), []
    for name, module in weighted_layers(model).items():
        module.register_forward_hook(lambda *a, name=name: ran.append(name))
    with torch.no_grad():
        ob.passage(model, "inner", noise.pixels[:2] / 255)
    assert ran == ["stem", "inner"]


def test_the_factor_of_a_norm_is_what_it_multiplies_every_channel_by():
    model = residual()
    x, zero = torch.ones(1, 8, 1, 1), torch.zeros(1, 8, 1, 1)
    with torch.no_grad():
        wanted = (model.inner_norm(x) - model.inner_norm(zero)).flatten()
    torch.testing.assert_close(ob.norm_scale(model, "inner_norm").detach(), wanted)
    bare = nn.ModuleDict({"norm": nn.BatchNorm2d(8, affine=False).eval()})
    bare["norm"].running_var.fill_(4.0)
    torch.testing.assert_close(ob.norm_scale(bare, "norm"), torch.full((8,), 0.5))
    assert ob.norm_scale(model, None) == 1.0


def test_jacobians_are_the_logits_slopes_along_a_random_direction_without_their_mean(noise):
    model, x = residual().double(), noise.pixels[:5].double() / 255
    found = ob.jacobians(model, LAYERS, x, torch.Generator().manual_seed(2))
    v = torch.randn((5, 3), generator=torch.Generator().manual_seed(2)).double()
    v = v - v.mean(1, keepdim=True)
    for name in LAYERS:
        module, step = model.get_submodule(name), 1e-6
        shape = None
        for o, p in ((0, 0), (2, 0)):
            values = []
            for sign in (1, -1):

                def moved(m, a, y, step=sign * step, o=o, p=p):
                    nonlocal shape
                    flat = y.clone().flatten(2) if y.ndim > 2 else y.clone()[:, :, None]
                    flat[:, o, p] += step
                    shape = flat.shape
                    return flat.view(y.shape)

                handle = module.register_forward_hook(moved)
                with torch.no_grad():
                    values.append((model(x) * v).sum(1))
                handle.remove()
            slope = (values[0] - values[1]) / (2 * step)
            torch.testing.assert_close(found[name][:, o, p], slope, rtol=1e-4, atol=1e-6)
        assert found[name].shape == shape


def test_jacobians_do_not_depend_on_what_is_frozen_and_leave_no_gradients(noise):
    model, x = residual(), noise.pixels[:5] / 255
    wanted = ob.jacobians(model, LAYERS, x, torch.Generator().manual_seed(2))
    model.requires_grad_(False)
    found = ob.jacobians(model, LAYERS, x, torch.Generator().manual_seed(2))
    assert all(torch.equal(found[name], own) for name, own in wanted.items())
    assert all(p.grad is None for p in model.parameters())


class Overwritten(Residual):
    """A sum is written into the result of a ReLU, from which its gradient would be made."""

    def forward(self, x):
        x = self.relu(self.stem(x))
        x += 1.0
        return self.out(x.mean((2, 3)))


def test_a_network_without_gradients_is_told(noise):
    model = seeded(Overwritten)
    with pytest.raises(DataError, match="the network has no gradients"):
        ob.jacobians(model, ["stem"], noise.pixels[:5] / 255, torch.Generator())
