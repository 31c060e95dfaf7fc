"""Calibration images, their rows and weights, and a layer's problem, each against a direct
computation.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import residual, seeded
from torch import nn
from torch.nn import functional as F

from mint_cli.errors import SettingError
from mint_cli.network.observe import Passage, passage
from mint_cli.network.replay import Walk
from mint_cli.protocol import Images, Layer
from mint_cli.solver import drawn, rows
from mint_cli.solver import equations as eq
from mint_cli.solver.rows import CLIP, Calibration, Problem, Stream, Survey

SETTINGS = Calibration(100, 16, 0.5, 0.9, 1e-2, 30)
LAYERS = ["stem", "inner", "outer", "out"]


@pytest.fixture
def model() -> nn.Module:
    return residual()


@pytest.fixture
def noise() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (200, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(200) % 3, 1, True)


def plain(images: Images) -> Images:
    return Images(images.pixels, images.labels)


BAD = {
    "images": (0, "must be at least 1"),
    "positions": (0, "must be at least 1"),
    "batch_size": (0, "must be at least 1"),
    "measured": (1.0, r"must lie in \[0, 1\)"),
    "joint": (-0.1, r"must lie in \[0, 1\)"),
    "ridge": (0.0, "must be above 0 and finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_setting_outside_its_bounds_is_refused_by_name(name):
    value, bound = BAD[name]
    with pytest.raises(SettingError, match=f"^{name} {bound}.*, not {value}"):
        replace(SETTINGS, **{name: value})
    with pytest.raises(SettingError, match=f"^{name} must be"):
        replace(SETTINGS, **{name: "many"})


def test_an_endless_ridge_is_refused():
    with pytest.raises(SettingError, match="ridge must be above 0 and finite, not inf"):
        replace(SETTINGS, ridge=float("inf"))


def test_every_pass_sees_the_same_images_once_each_and_another_generator_sees_others(noise):
    def pixels(seed):
        source = rows.stream(plain(noise), SETTINGS, np.random.default_rng(seed))
        return [torch.cat(list(source.batches())) for _ in range(2)]

    (first, again), (other, _) = pixels(0), pixels(1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (100, 1, 8, 8) and len(first.flatten(1).unique(dim=0)) == 100
    assert len(list(rows.stream(noise, SETTINGS, np.random.default_rng(0)).batches())) == 4


def test_the_images_are_seen_after_the_training_transform(noise):
    """With flips alone every image is itself or its mirror image, and both occur."""
    flipped = Images(noise.pixels, noise.labels, 0, True)
    source = rows.stream(flipped, SETTINGS, np.random.default_rng(0))
    known = {p.float().div(255).numpy().tobytes() for p in noise.pixels}
    seen = torch.cat(list(source.batches()))
    turned = [x.numpy().tobytes() not in known for x in seen]
    assert all(
        x.flip(-1).numpy().tobytes() in known for x, turn in zip(seen, turned, strict=True) if turn
    )
    assert 30 < sum(turned) < 70


def test_more_images_than_there_are_are_refused(noise):
    with pytest.raises(
        SettingError, match="calibration.images must lie between 1 and 200.*not 201"
    ):
        rows.stream(noise, replace(SETTINGS, images=201), np.random.default_rng(0))


def slopes(model: nn.Module, layer: str, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """∂ v·logits / ∂ output of the layer, (n, out, positions), image by image."""
    found, module = [], model.get_submodule(layer)
    for image, own in zip(x, v, strict=True):
        kept = {}
        handle = module.register_forward_hook(lambda m, a, y: kept.setdefault("y", y))  # noqa: B023
        logits = model(image[None])
        handle.remove()
        (gradient,) = torch.autograd.grad((logits[0] * (own - own.mean())).sum(), [kept["y"]])
        found.append(gradient.flatten(2)[0] if gradient.ndim == 4 else gradient[0, :, None])
    return torch.stack(found)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_row_weighs_what_the_logits_feel_at_its_own_position(model, noise, layer):
    source = Stream(noise, replace(SETTINGS, images=60), 7)
    surveyed = rows.survey(model, [layer], source)[layer]
    generator, felt, sums = torch.Generator().manual_seed(7), [], 0.0
    for x, at in zip(source.batches(), surveyed.at, strict=True):
        v = torch.randn(len(x), 3, generator=generator)
        slope = slopes(model, layer, x, v)
        torch.rand(len(x), slope.shape[2], generator=generator)  # the draw of positions
        felt.append(slope.square().sum(1).gather(1, at.long()))
        sums = sums + torch.einsum("nop,nqp->oq", slope.double(), slope.double()) / 60
        assert all(len(row.unique()) == at.shape[1] for row in at)
    relative = torch.cat(felt) / torch.cat(felt).mean()
    wanted = 0.5 + 0.5 * relative.clamp_max(CLIP)
    found = torch.cat(surveyed.weights).float()
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=1e-3)
    assert found.std() > 0.05
    torch.testing.assert_close(surveyed.sensitivity, sums, rtol=1e-3, atol=1e-6)
    assert surveyed.rows == 60 * min(16, slope.shape[2])


class Backwards(nn.Module):
    """Defines last what it calls first."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.second = nn.Linear(3, 3), nn.Conv2d(2, 3, 3)
        self.first = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.out(self.second(self.first(x)).mean((2, 3)))


def test_layers_are_surveyed_in_the_order_in_which_a_pass_calls_them(noise):
    found = rows.survey(seeded(Backwards), ["out", "second", "first"], Stream(noise, SETTINGS, 7))
    assert list(found) == ["first", "second", "out"]


class OnePixel(nn.Module):
    """Of 64 positions the logits feel one a hundred times as much as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        gain = torch.ones(1, 1, 8, 8)
        gain[..., 3, 4] = 100.0
        self.register_buffer("gain", gain)

    def forward(self, x):
        return (self.conv(x) * self.gain).sum((2, 3))


def test_a_position_counts_at_most_so_many_times_the_mean(noise):
    source = Stream(noise, replace(SETTINGS, positions=64, measured=0.75), 7)
    surveyed = rows.survey(seeded(OnePixel), ["conv"], source)["conv"]
    at, weights = torch.cat(surveyed.at), torch.cat(surveyed.weights).float()
    assert float(weights.max()) == pytest.approx(0.25 + 0.75 * CLIP)
    assert (at[weights > 10] == 3 * 8 + 4).all() and (weights > 10).sum() > 30


def test_positions_of_maps_larger_than_an_int16_counts_are_drawn_too(noise):
    large = replace(noise, pixels=noise.pixels[:20].repeat(1, 1, 23, 23), labels=noise.labels[:20])
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    surveyed = rows.survey(model, ["0"], Stream(large, replace(SETTINGS, images=20), 7))["0"]
    assert max(int(at.max()) for at in surveyed.at) > 2**15
    assert min(int(at.min()) for at in surveyed.at) >= 0


def test_the_metric_mixes_what_the_logits_feel_with_every_output_alone():
    surveyed = Survey([], [], torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    wanted = torch.tensor([[0.9 * 4 / 3 + 0.1, 0.3], [0.3, 0.9 * 2 / 3 + 0.1]])
    torch.testing.assert_close(rows.metric(surveyed, 0.9), wanted.double())
    assert torch.equal(rows.metric(surveyed, 0.0), torch.eye(2, dtype=torch.float64))


def by_hand(model, layer, source, surveyed):
    """Moments of a layer's rows from patches at the drawn positions, weighted."""
    module, u, t, w = model.get_submodule(layer), [], [], []
    for x, at, weights in zip(source.batches(), surveyed.at, surveyed.weights, strict=True):
        with torch.no_grad():
            seen = passage(model, layer, x)
        patches = F.unfold(seen.entering, 3, padding=1, stride=module.stride)
        for i, where in enumerate(at.long()):
            u.append(patches[i][:, where].T)
            t.append(seen.leaving[i].flatten(1)[:, where].T)
        w.append(weights.float().flatten())
    return torch.cat(u).double(), torch.cat(t).double(), torch.cat(w).double()


@pytest.mark.parametrize("layer", ["stem", "inner"])
def test_a_problem_holds_the_weighted_rows_of_its_layer_with_the_ridge_that_was_asked(
    model, noise, layer
):
    source = Stream(noise, SETTINGS, 7)
    surveyed, walk = rows.survey(model, [layer], source)[layer], Walk(model, [layer])
    found = rows.problem(walk, walk, layer, surveyed, source).equations
    u, t, w = by_hand(model, layer, source, surveyed)
    mean = (u * w[:, None]).sum(0) / w.sum()
    covariance = ((u - mean) * w[:, None]).T @ (u - mean) / w.sum()
    ridge = 1e-2 * covariance.diagonal().mean() * torch.eye(u.shape[1], dtype=u.dtype)
    torch.testing.assert_close(found.gram, covariance + ridge, rtol=1e-4, atol=1e-5)
    targets = (t * w[:, None]).sum(0) / w.sum()
    cross = ((u - mean) * w[:, None]).T @ (t - targets) / w.sum()
    torch.testing.assert_close(found.cross, cross, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.targets, targets, rtol=1e-4, atol=1e-5)


def test_a_bias_goes_where_the_layer_has_one_else_into_the_norm_that_follows(model, noise):
    source = Stream(noise, SETTINGS, 7)
    surveys, walk = rows.survey(model, LAYERS, source), Walk(model, LAYERS)
    shifts = [rows.problem(walk, walk, n, surveys[n], source).shift for n in LAYERS]
    assert shifts == ["stem.bias", "inner_norm.running_mean", "outer_norm.running_mean", "out.bias"]


def test_without_a_place_for_a_bias_inputs_and_targets_are_not_centred(noise):
    bare = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))
    source, walk = Stream(noise, SETTINGS, 7), Walk(bare.eval(), ["0"])
    found = rows.problem(walk, walk, "0", rows.survey(bare, ["0"], source)["0"], source)
    assert (
        found.shift is None
        and not found.equations.inputs.any()
        and not found.equations.targets.any()
    )


def seen(norm: str | None, added: torch.Tensor | None) -> Passage:
    found = Passage(nn.Module())
    found.norm, found.added = norm, added
    return found


def test_what_a_shortcut_lost_is_in_units_of_the_output_before_its_norm():
    """Factor γ / √(σ² + ε) of the norm between the layer and the addition."""
    model = nn.Module()
    model.norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([2.0, -0.5, 1e-5]))
        model.norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0]) - model.norm.eps)
    lost = torch.rand(5, 3, 2, 2)
    wanted, given = seen("norm", lost + 1), seen("norm", torch.ones(5, 3, 2, 2))
    found = rows.shortfall(model, wanted, given).detach()
    torch.testing.assert_close(found[:, 0], lost[:, 0] / 1.0)
    torch.testing.assert_close(found[:, 1], lost[:, 1] / -1.0)
    assert (found[:, 2] == 0).all()  # what hardly passes the norm cannot make up for anything


def test_without_a_norm_a_shortcut_is_made_up_for_as_it_is_and_without_a_shortcut_nothing_is():
    lost = torch.rand(5, 3)
    wanted, given = seen(None, lost + 1), seen(None, torch.ones(5, 3))
    torch.testing.assert_close(rows.shortfall(nn.Module(), wanted, given), lost)
    assert rows.shortfall(nn.Module(), wanted, wanted) == 0.0
    assert rows.shortfall(nn.Module(), seen(None, None), given) == 0.0


def test_with_pruned_inputs_the_target_makes_up_for_what_the_shortcut_lost(model, noise):
    """The stem is emptied: at the outer layer the pruned shortcut is 0 and the dense one is not."""
    pruned = residual()
    with torch.no_grad():
        pruned.stem.weight.zero_()
        pruned.stem.bias.zero_()
    source = Stream(plain(noise), replace(SETTINGS, images=200), 7)
    surveyed = rows.survey(model, ["outer"], source)["outer"]
    found = rows.problem(Walk(model, ["outer"]), Walk(pruned, ["outer"]), "outer", surveyed, source)
    total, weight = torch.zeros(6), 0.0
    norm = model.outer_norm
    factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    for x, at, weights in zip(source.batches(), surveyed.at, surveyed.weights, strict=True):
        with torch.no_grad():
            dense = passage(model, "outer", x)
        target = (dense.leaving + dense.added / factor[:, None, None]).flatten(2)
        here = target.gather(2, at.long()[:, None].expand(-1, 6, -1))
        total += (here * weights.float()[:, None]).sum((0, 2))
        weight += weights.float().sum()
    torch.testing.assert_close(
        found.equations.targets, (total / weight).double(), rtol=1e-3, atol=1e-3
    )


def test_solved_weights_and_their_bias_are_written_where_the_network_keeps_them(model):
    ones, zero = torch.ones(6), torch.zeros(6)
    equations = eq.Normal(torch.eye(6), torch.eye(6), ones * 2, ones * 10, zero)
    weights = torch.arange(18.0).view(3, 6)
    found = Problem(model.out, replace(equations, targets=ones[:3] * 10), torch.eye(3), "out.bias")
    changed = rows.solution(model, "out", found, weights)
    assert torch.equal(changed["out.weight"], weights)
    torch.testing.assert_close(changed["out.bias"], 10 - 2 * weights.sum(1))
    equations = eq.Normal(torch.eye(72), torch.eye(72), torch.ones(72), ones * 10, zero)
    found = Problem(model.outer, equations, torch.eye(6), "outer_norm.running_mean")
    changed = rows.solution(model, "outer", found, torch.full((6, 72), 0.5))
    bias = 10 - 36  # a batch norm subtracts its mean
    torch.testing.assert_close(
        changed["outer_norm.running_mean"], model.outer_norm.running_mean - bias
    )
    assert set(changed) == {"outer.weight", "outer_norm.running_mean"}


def test_outputs_are_solved_together_only_where_the_metric_joins_them():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    cross = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    equations = eq.Normal(root @ root.T, cross, torch.zeros(5), torch.zeros(2), torch.ones(2))
    support = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]], dtype=torch.bool)
    apart = rows.solve(Problem(nn.Module(), equations, torch.eye(2).double(), None), support)
    assert torch.equal(apart, eq.solve(equations, support))
    joined = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    together = rows.solve(Problem(nn.Module(), equations, joined, None), support)
    assert (together - apart).abs().max() > 0.01 and (together[~support] == 0).all()


def test_a_support_is_the_mask_over_the_columns_of_the_flat_weight(model):
    mask = torch.rand(8, 6) < 0.5
    found = rows.support(mask, model.inner)
    assert found.shape == (8, 54) and torch.equal(found.view(8, 6, 9)[..., 4], mask)
    single = torch.rand(8, 6, 3, 3) < 0.5
    assert torch.equal(rows.support(single, model.inner), single.flatten(1))


def test_rows_are_the_patches_and_targets_of_the_drawn_positions(model):
    x, target = torch.rand(2, 6, 8, 8), torch.rand(2, 8, 4, 4)
    at = torch.tensor([[3, 0], [15, 7]])
    u, t = rows.rows(model.inner, x, target, at)
    patches = F.unfold(x, 3, padding=1, stride=2)
    wanted = torch.stack([patches[i, :, p] for i in (0, 1) for p in at[i]])
    assert torch.equal(u[:, drawn.flat_order(model.inner)], wanted)
    assert torch.equal(t, torch.stack([target[i].flatten(1)[:, p] for i in (0, 1) for p in at[i]]))


def layer(name: str, positions: int, *shape: int, **more) -> Layer:
    return Layer(name, "Conv2d", shape, positions, 1, **more)


def test_fewer_rows_than_unknowns_are_refused_with_the_images_that_are_needed(model, noise):
    layers = {"a": layer("a", 9, 8, 10, 3, 3), "b": layer("b", 4, 8, 100, 3, 3)}
    wanted = "calibration.images must be at least 225, not 100; layer b is solved for 900 unknowns"
    with pytest.raises(SettingError, match=wanted):
        rows.check_all_inputs(layers, layers, SETTINGS)
    rows.check_all_inputs(layers, layers, replace(SETTINGS, images=225))
    rows.check_all_inputs(layers, ["a"], SETTINGS)
    source = Stream(noise, replace(SETTINGS, images=2, positions=4), 7)
    surveys = rows.survey(model, ["inner"], source)
    full = torch.ones(8, 54, dtype=torch.bool)
    with pytest.raises(SettingError, match="at least 14, not 2; layer inner .* only 8 rows"):
        rows.check_supports(surveys, {"inner": full}, source)
    full[:, 8:] = False
    rows.check_supports(surveys, {"inner": full}, source)


def test_layers_that_cannot_be_seen_are_refused_by_name():
    layers = {
        "a": layer("a", 9, 8, 1, 3, 3, blind=("it is a grouped convolution (groups=8)",)),
        "b": layer("b", 9, 8, 8),
    }
    with pytest.raises(
        SettingError, match=r"^skip must leave alone a; layer a cannot be re-solved"
    ):
        rows.check_solvable(layers, layers)
    rows.check_solvable(layers, ["b"])
