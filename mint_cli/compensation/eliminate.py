"""Groups chosen anew inside every layer by the information they carry given those still kept, then re-solved; layer after layer."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from torch import Tensor, nn

from mint_cli.solver import rows as cal
from mint_cli import group
from mint_cli.solver import choice as elimination
from mint_cli.errors import SettingError
from mint_cli.protocol import Images, Masks, Shapes, Tensors
from mint_cli.network.replay import Walk


def eliminate(
    model: nn.Module,
    masks: Masks,
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
    growth: float,
    sweeps: int,
    child_groups: group.Groups,
    parent_groups: group.Groups,
) -> tuple[Masks, Tensors]:
    """As ``sequential``, but each layer keeps, of as many connections as its mask, those whose loss the logits would feel most.

    Every child group grows to ``growth`` times the blocks it keeps in the mean and is then eliminated down, always the block
    that costs least given those still kept; first by itself, then ``sweeps`` times given the errors of all the others.
    """
    check_choice(growth, sweeps)
    calibration = cal.start(images, rng, calibration_images, positions, measured, joint, ridge, batch_size)
    pruned, chosen, changed = deepcopy(model), {}, {}
    dense, prefix = Walk(model, list(masks)), Walk(pruned, list(masks))
    surveys = cal.survey(model, list(masks), calibration)
    for name, mask in masks.items():
        child, parent = group.of_layer(name, *mask.shape, child_groups, parent_groups)
        problem = cal.problem(dense, prefix, name, surveys[name], calibration)
        kept, weights = elimination.choose(problem, mask.cpu(), child, parent, growth, sweeps)
        found = cal.solution(model, name, problem, weights)
        pruned.load_state_dict(pruned.state_dict() | found)
        chosen[name] = kept.to(mask.device)
        changed |= found
    return chosen, changed


def check(shapes: Shapes, labels: Tensor, /, **settings) -> None:
    """Images within the training set, groups within the channels, growth that leaves something to eliminate."""
    cal.check(shapes, labels, **settings)
    cal.check_all_inputs(shapes, settings["calibration_images"], settings["positions"])
    group.check(shapes, settings["child_groups"], settings["parent_groups"])
    check_choice(settings["growth"], settings["sweeps"])


def check_choice(growth: float, sweeps: int) -> None:
    """SettingError unless growth is at least 1 and sweeps at least 0."""
    for name, low, value in (("growth", 1, growth), ("sweeps", 0, sweeps)):
        if value < low:
            raise SettingError(f"pruner.compensation.{name} must be at least {low}, not {value}")
