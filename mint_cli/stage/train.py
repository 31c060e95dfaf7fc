"""The dense network."""

from __future__ import annotations

from mint_cli.network import checkpoint as ck
from mint_cli.network.checkpoint import Checkpoint
from mint_cli.stage.common import Network, Result, prefixed, stream
from mint_cli.store import Context
from mint_cli.training.loop import fit
from mint_cli.training.recipe import Recipe


def train(network: Network, checkpoint: Checkpoint | None, recipe: Recipe | None, context: Context) -> Result:
    """The dense network: trained by the recipe, or taken from a checkpoint, with masks of its zeros if these are to stay."""
    model, losses, masks = network.build(), [], {}
    if checkpoint:
        ck.load(checkpoint, model)
        masks = ck.masks(model) if checkpoint.zeros else {}
    else:
        losses = fit(model, network.data.splits.train, recipe, stream(network.seed, "train"), context)
    tensors = prefixed("state", model.state_dict()) | prefixed("mask", masks)
    return tensors, {"training_loss": losses}
