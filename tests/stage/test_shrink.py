"""The smaller network: the same outputs, or the masked one and why."""

from functools import partial

import branches
import pytest
import torch
from channels import NETWORKS, padded, varied
from experiments import SMALL, network
from networks import seeded
from torch import nn

from mint_cli.network import cost, surgery, units
from mint_cli.network.cells import masks_of
from mint_cli.network.cost import macs
from mint_cli.network.layers import apply_masks
from mint_cli.stage import shrink as stage
from mint_cli.stage.common import prefixed
from mint_cli.stage.shrink import shrink
from mint_cli.store import Artifact


def artifact(tensors, metrics=None):
    return Artifact(tensors, metrics or {}, 0.0)


def zeroed(own, *names, at=(1, 3)):
    """The network's state with the given channels of the named layers' rows set to zero."""
    model = own.build()
    with torch.no_grad():
        for name in names:
            p = model.get_parameter(name)
            p[list(at)] = 0.0
    return model


def shrunken(own, model, context):
    return shrink(own, artifact(prefixed("state", model.state_dict())), context)


def test_channels_without_use_are_taken_out_and_the_outputs_stay(context):
    own = network(SMALL)
    model = zeroed(own, "inner.weight", "norm.bias")
    tensors, found = shrunken(own, model, context)
    small = own.rebuild(artifact(tensors))
    assert small.inner.out_channels == small.outer.in_channels == 4 and found["reason"] is None
    x = own.data.splits.test.pixels.float() / 255
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)
    assert found["difference"] < 1e-5
    pixels = own.pixels
    assert macs(small, pixels) == macs(model, pixels) - 36 * 2 * (54 + 54)


def kept_whole(own, model, context):
    tensors, found = shrunken(own, model, context)
    assert not [name for name in tensors if not name.startswith("state/")]
    state = model.state_dict()
    assert all(torch.equal(t, state[n.removeprefix("state/")]) for n, t in tensors.items())
    return found["reason"]


def test_a_network_whose_outputs_would_differ_is_kept_and_told(context, monkeypatch, caplog):
    def otherwise(model, pixels, x):
        small = own.build()
        nn.init.zeros_(small.out.weight)
        return small, {"rows/inner": torch.ones(6) > 0}

    own = network(SMALL)
    monkeypatch.setattr(stage, "smaller", otherwise)
    reason = kept_whole(own, zeroed(own, "inner.weight"), context)
    assert "its outputs differ by" in reason and reason in caplog.text


def fixed(build, shape, classes, /):
    """A network for grey images of three classes out of one for coloured ones."""
    model = seeded(build)
    forward = model.of
    model.of = lambda m, x: forward(m, x.repeat(1, 3, 1, 1))
    return model


@pytest.mark.parametrize(("build", "layer"), [(NETWORKS["split"], "first"), (padded, "narrow")])
def test_a_network_whose_forward_pass_counts_on_its_channels_is_kept_and_told(
    build, layer, context
):
    own = network(partial(fixed, build))
    model = zeroed(own, f"{layer}.weight", f"{layer}.bias", at=(1,))
    reason = kept_whole(own, model, context)
    assert reason and len(reason.splitlines()) == 1


def test_a_network_without_a_channel_that_can_go_is_kept_and_told(context):
    def flat(shape, classes, /):
        return nn.Sequential(nn.Flatten(), nn.Linear(36, classes))

    own = network(partial(flat))
    assert "no channel that can go" in kept_whole(own, own.build(), context)


def coloured(build, shape, classes, /):
    """One of the networks of units, for grey images."""
    return fixed(lambda: varied(build()), shape, classes)


@pytest.mark.parametrize(("build", "less"), [(branches.residual, 0), (branches.dense, 1)])
def test_units_of_which_nothing_is_left_are_taken_out_and_the_network_is_rebuilt(
    build, less, context
):
    own = network(partial(coloured, build))
    model = own.build()
    cells = branches.unit_cells(model, own.pixels)
    kept = branches.without(cells, "first", "third")
    parameters = dict(model.named_parameters())
    masks = {n: m for n, m in masks_of(cells, kept).items() if n in parameters}
    apply_masks(model, masks)
    tensors, found = shrunken(own, model, context)
    small = own.rebuild(artifact(tensors))
    assert found["reason"] is None and isinstance(small.first[3 + 2 * less], surgery.Zeros)
    left = cost.remaining(parameters, cells, kept)
    assert cost.parameters(small) <= sum(left.values()) < cost.parameters(model)
    x = own.data.splits.test.pixels.float() / 255
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)
    assert {n for n in tensors if n.startswith("gone/first")} == {
        f"gone/{name}" for name in units.modules_of(units.find(own.build(), own.pixels).units[0])
    }
