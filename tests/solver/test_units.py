"""What the logits lose with a unit: nothing where what goes past can stand in for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from branches import PIXELS, branch, dense, network, residual, unit_cells
from channels import Net, conv, pooled
from networks import seeded
from torch import nn

from mint_cli.network.units import find
from mint_cli.protocol import Images
from mint_cli.solver import rows
from mint_cli.solver.rows import Calibration
from mint_cli.solver.units import losses, of_cells

CALIBRATION = Calibration(100, 16, 0.5, 0.9, 1e-6, 50)


@pytest.fixture
def noise() -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (100, *PIXELS), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(100) % 3, 1, True)


def lost(model, images, calibration=CALIBRATION, seed=0):
    source = rows.stream(images, calibration, np.random.default_rng(seed))
    return losses(model, find(model, PIXELS).units, source)


def mixed():
    """A unit of linear layers, one that is not, and one that adds nothing."""

    def forward(m, x):
        x = m.stem(x)
        for name in ("linear", "other", "nothing"):
            x = x + m.get_submodule(name)(x)
        return m.out(pooled(torch.relu(x)))

    linear = nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1))
    net = Net(
        forward, stem=conv(3, 6), linear=linear, other=branch(6, 6), nothing=branch(6, 6),
        out=nn.Linear(6, 3),
    )  # fmt: skip
    with torch.no_grad():
        net.nothing[4].weight.zero_()
        net.nothing[4].bias.fill_(3.0)  # a constant is as good as nothing
    return net.eval()


def test_what_goes_past_a_unit_of_linear_layers_stands_in_for_it(noise):
    score = lost(seeded(mixed), noise)
    assert score[0] < 1e-4 * score[1] and score[2] < 1e-6 * score[1]


@pytest.mark.parametrize("build", [residual, dense])
def test_losses_are_in_squared_logits(build, noise):
    model = network(build)
    before = lost(model, noise)
    with torch.no_grad():
        model.out.weight *= 2
    torch.testing.assert_close(lost(model, noise), 4 * before, rtol=1e-4, atol=1e-12)
    assert (before > 0).all()


def test_of_an_output_that_cannot_be_foretold_all_that_the_logits_feel_is_lost(noise):
    """The loss is E |J (t − mean)|² where every position counts alike and t has nothing to do with
    u.
    """

    def forward(m, x):
        return m.out(pooled(m.stem(x[:, :1]) + m.unit(x[:, 1:])))

    model = seeded(
        lambda: Net(
            forward, stem=nn.Conv2d(1, 2, 1), out=nn.Linear(2, 2, bias=False),
            unit=nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)),
        )
    )  # fmt: skip
    even = Calibration(100, 64, 0.0, 0.999, 1e-6, 100)
    with torch.no_grad():
        t = model.unit(noise.pixels[:, 1:].float() / 255).movedim(1, 0).flatten(1)
        slopes = (
            model.out.weight / 64
        )  # of either logit; v − mean v leaves their difference, of variance 1/2
        felt = ((slopes[0] - slopes[1]) @ (t - t.mean(1, keepdim=True))).square().mean() * 64 / 2
    assert lost(model, replace(noise, padding=0, flip=False), even)[0] == pytest.approx(
        float(felt), rel=0.4
    )


def test_the_same_seed_gives_the_same_losses_and_another_one_others(noise):
    model = network(residual)
    first, again, other = (lost(model, noise, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_units_of_cells_are_found_by_their_names():
    model = network(residual)
    found = of_cells(model, unit_cells(model, stages=True), PIXELS)
    named = {s: [u.name for u in own] for s, own in found.items()}
    assert named == {"units1": ["first"], "units2": ["second", "third"]}
