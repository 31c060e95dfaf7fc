"""The pruned network trained on."""

from dataclasses import replace

import torch
from experiments import RECIPE, network

from mint_cli.network.layers import apply_masks
from mint_cli.stage.common import part, prefixed
from mint_cli.stage.retrain import retrain
from mint_cli.store import Artifact


def pruned():
    """A network that has lost some weights, and its masks."""
    model, mask = network().build(), torch.arange(200).view(10, 20) % 3 > 0
    apply_masks(model, {"fc2.weight": mask})
    tensors = prefixed("state", model.state_dict()) | prefixed("mask", {"fc2.weight": mask})
    return Artifact(tensors, {}, 0.0), mask


def retrained(context, seed=0, round=1, recipe=RECIPE):
    tensors, metrics = retrain(network(), recipe, seed, round, pruned()[0], context)
    return Artifact(tensors, metrics, 0.0)


def test_masks_hold_exactly_and_are_handed_on(context):
    found, mask = retrained(context), pruned()[1]
    weight = part("state", found)["fc2.weight"]
    assert (weight[~mask] == 0.0).all() and (weight[mask] != 0).all()
    assert torch.equal(part("mask", found)["fc2.weight"], mask)
    assert len(found.metrics["training_loss"]) == 2


def test_order_depends_on_the_seed_and_on_the_round(context):
    first, again, later, other = (
        part("state", retrained(context, seed, r))["fc1.weight"]
        for seed, r in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later) and not torch.equal(first, other)


def test_no_epochs_change_nothing(context):
    found, given = retrained(context, recipe=replace(RECIPE, epochs=0)), pruned()[0]
    assert found.metrics == {"training_loss": []}
    assert all(torch.equal(value, found.tensors[name]) for name, value in given.tensors.items())
