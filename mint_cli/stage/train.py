"""The dense network."""

from __future__ import annotations

from mint_cli.network import checkpoint as ck
from mint_cli.network.checkpoint import Checkpoint
from mint_cli.stage.common import Network, Result, prefixed, stream
from mint_cli.store import Context
from mint_cli.training.alone import fit_alone
from mint_cli.training.loop import fit
from mint_cli.training.recipe import Recipe


def train(
    network: Network, checkpoint: Checkpoint | None, recipe: Recipe | None, context: Context
) -> Result:
    """The dense network: trained by the recipe, or taken from a checkpoint, with masks of its zeros
    if these are to stay.

    With both, what the checkpoint leaves new is trained, and nothing else.
    """
    model, losses, masks = network.build(), [], {}
    images, order = network.data.splits.train, stream(network.seed, "train")
    if checkpoint:
        ck.load(checkpoint, model)
        masks = ck.masks(model, checkpoint.new) if checkpoint.zeros else {}
        if recipe:
            names = ck.new_modules(model, checkpoint.new)
            losses = fit_alone(model, names, images, recipe, order, context)
    else:
        losses = fit(model, images, recipe, order, context)
    tensors = prefixed("state", model.state_dict()) | prefixed("mask", masks)
    return tensors, {"training_loss": losses}
