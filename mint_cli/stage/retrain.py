"""The pruned network trained on."""

from __future__ import annotations

from mint_cli.stage.common import Network, Result, part, prefixed, stream
from mint_cli.store import Artifact, Context
from mint_cli.training.loop import fit
from mint_cli.training.recipe import Recipe


def retrain(
    network: Network, recipe: Recipe, seed: int, round: int, pruned: Artifact, context: Context
) -> Result:
    """The pruned network trained on by the recipe; its masks hold exactly.  No epochs change
    nothing.
    """
    model, masks, losses = network.build(part("state", pruned)), part("mask", pruned), []
    if recipe.epochs:
        order = stream(seed, "retrain", round)
        losses = fit(model, network.data.splits.train, recipe, order, context, masks)
    return prefixed("state", model.state_dict()) | prefixed("mask", masks), {
        "training_loss": losses
    }
