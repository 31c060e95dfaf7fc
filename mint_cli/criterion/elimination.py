"""What each block carries for the logits given the blocks still kept, comparable between layers; on the dense network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.solver import rows as cal
from mint_cli.solver import choice as el
from mint_cli import group
from mint_cli.network.layers import weighted_layers
from mint_cli.errors import SettingError
from mint_cli.protocol import Estimate, Images, Shapes
from mint_cli.network.replay import Walk


def elimination(
    model: nn.Module,
    layers: list[str],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    calibration_images: int,
    positions: int,
    measured: float,
    joint: float,
    ridge: float,
    batch_size: int,
    depth: int,
    child_groups: group.Groups,
    parent_groups: group.Groups,
) -> dict[str, Estimate]:
    """Information a weight that a layer loses for the logits when the block goes in its turn, times all the energy that they feel of it.

    In logits² (``elimination.worth``).  Inputs and targets are those of the dense network.
    Every child group grows to the blocks of ``depth`` inputs (columns of the flat weight), those that explain most; they are
    eliminated one by one, the others score 0.
    """
    calibration = cal.start(images, rng, calibration_images, positions, measured, joint, ridge, batch_size)
    modules, walk, estimates = weighted_layers(model), Walk(model, layers), {}
    surveys = cal.survey(model, layers, calibration)
    for name in layers:
        weight = modules[name].weight
        child, parent = group.of_layer(name, *weight.shape[:2], child_groups, parent_groups)
        problem = cal.problem(walk, walk, name, surveys[name], calibration)
        layer = el.layer(problem.equations, problem.metric, child, parent)
        unit = float(surveys[name].felt.diagonal().mean())  # the metric's own is 1
        worth = el.worth(unit * el.costs(layer, min(len(layer.columns), -(-depth // layer.size))))
        weights = torch.bincount(child)[:, None] * torch.bincount(parent)[None, :] * weight[0, 0].numel()
        estimates[name] = Estimate(worth / weights, None, child, parent)
    return estimates


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Images within the training set, groups within the channels, at least one input to rank."""
    cal.check(shapes, labels, **settings)
    cal.check_all_inputs(shapes, settings["calibration_images"], settings["positions"])
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
    if settings["depth"] < 1:
        raise SettingError(f"pruner.criterion.depth must be at least 1, not {settings['depth']}")
