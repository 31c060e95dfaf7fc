"""The dense network: trained, or taken from a checkpoint."""

from dataclasses import replace

import torch
from experiments import RECIPE, network

from mint_cli.network.checkpoint import Checkpoint
from mint_cli.stage.common import part
from mint_cli.stage.train import train
from mint_cli.store import Artifact
from mint_cli.training.loop import predict


def trained(context, seed=0, checkpoint=None, recipe=RECIPE):
    tensors, metrics = train(
        network(seed=seed), checkpoint, None if checkpoint else recipe, context
    )
    return Artifact(tensors, metrics, 0.0)


def test_a_trained_network_has_learnt_and_tells_the_loss_of_every_epoch(context):
    found = trained(context, recipe=replace(RECIPE, epochs=12, batch_size=20))
    losses = found.metrics["training_loss"]
    assert len(losses) == 12 and losses[-1] < losses[0] and part("mask", found) == {}
    model = network().build(part("state", found))
    predicted, _ = predict(model, network().data.splits.test)
    assert (predicted == network().data.splits.test.labels).double().mean() > 0.9


def test_without_dropout_and_transform_the_seed_still_decides_weights_and_order(context):
    first, again, other = (part("state", trained(context, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])


def test_a_checkpoint_is_taken_as_it_is_and_nothing_is_trained(context, tmp_path):
    state = network(seed=3).build().state_dict()
    torch.save(state, tmp_path / "given.pt")
    given = Checkpoint.of(tmp_path / "given.pt", None, "name", False)
    found = trained(context, checkpoint=given)
    own = part("state", found)
    assert found.metrics["training_loss"] == [] and part("mask", found) == {}
    assert all(torch.equal(value, own[name]) for name, value in state.items())


def test_what_a_checkpoint_leaves_new_is_trained_alone(context, tmp_path):
    state = network(seed=3).build().state_dict()
    torch.save({n: v for n, v in state.items() if not n.startswith("fc3.")}, tmp_path / "given.pt")
    given = Checkpoint.of(tmp_path / "given.pt", None, "name", False, ["fc3"])
    tensors, metrics = train(network(), given, replace(RECIPE, epochs=8), context)
    own = part("state", Artifact(tensors, metrics, 0.0))
    assert (
        len(metrics["training_loss"]) == 8
        and metrics["training_loss"][-1] < metrics["training_loss"][0]
    )
    first = network().build().state_dict()
    for name, value in own.items():
        same = torch.equal(value, (first if name.startswith("fc3.") else state)[name])
        assert same != name.startswith("fc3.")


def test_no_epochs_leave_the_initial_weights(context):
    own = part("state", trained(context, recipe=replace(RECIPE, epochs=0)))
    built = network().build().state_dict()
    assert all(torch.equal(value, own[name]) for name, value in built.items())
