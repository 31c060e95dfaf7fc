"""Losses without each channel as an artifact: in parts of the training images, and resumed."""

from functools import partial

import pytest
import torch
from experiments import KERNELS, network, sites

from mint_cli.errors import SettingError
from mint_cli.granularity.filters import filters
from mint_cli.network.removal import Removals, judged
from mint_cli.stage.common import prefixed
from mint_cli.stage.oracle import oracle
from mint_cli.store import Artifact, Context, Scratch

FILTERS = partial(filters, residual=False)


@pytest.fixture
def dense():
    return Artifact(prefixed("state", network().build().state_dict()), {}, 0.0)


def taken(dense, context, first=0, last=12, seed=0, granularity=FILTERS):
    return oracle(network(), sites(granularity), seed, first, last, dense, context)


def test_every_map_has_the_loss_of_every_image_and_the_network_its_own(dense, context):
    tensors, metrics = taken(dense, context)
    shapes = {"dense": (12,), "fc1": (20, 12), "fc2": (10, 12)}
    assert {n: tuple(t.shape) for n, t in tensors.items() if n.startswith("losses/")} == {
        f"losses/{site}": shape for site, shape in shapes.items()
    }
    images = network().data.splits.train
    index = torch.tensor(metrics["index"])
    with torch.no_grad():
        logits = network().build()(images.pixels[index].float() / 255)
    losses, right = judged(logits, images.labels[index])
    torch.testing.assert_close(tensors["losses/dense"], losses)
    assert torch.equal(tensors["right/dense"], right)


def test_parts_hold_other_images_of_one_order_that_the_seed_draws(dense, context):
    whole = taken(dense, context)[1]["index"]
    assert (
        whole == taken(dense, context, 0, 5)[1]["index"] + taken(dense, context, 5, 12)[1]["index"]
    )
    assert len(set(whole)) == 12 and whole != taken(dense, context, seed=1)[1]["index"]


def test_a_killed_run_goes_on_at_the_site_where_it_was(dense, tmp_path, monkeypatch):
    context = Context(torch.device("cpu"), Scratch(tmp_path / "progress", key="a"))
    wanted, _ = taken(dense, context)
    again = Context(torch.device("cpu"), Scratch(tmp_path / "progress", key="a"))
    monkeypatch.setattr(Removals, "without", None)  # nothing is left to be measured
    found, _ = taken(dense, again)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_cells_that_are_no_channels_are_refused(dense, context):
    with pytest.raises(SettingError, match="^granularity must be filters"):
        taken(dense, context, granularity=KERNELS)
