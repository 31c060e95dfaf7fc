"""Every layer re-solved by itself: inputs and targets of the dense network."""

from __future__ import annotations

import numpy as np
from torch import nn

from mint_cli.solver import rows as cal
from mint_cli.solver.rows import check as check  # before any work
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Images, Masks, Tensors
from mint_cli.network.replay import Walk


def layer(
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
) -> tuple[Masks, Tensors]:
    """Kept weights that match each layer's dense output best in ridge least squares, given dense inputs; see ``sequential``."""
    calibration = cal.start(images, rng, calibration_images, positions, measured, joint, ridge, batch_size)
    modules, walk, changed = weighted_layers(model), Walk(model, list(masks)), {}
    surveys = cal.survey(model, list(masks), calibration)
    supports = {name: cal.support(mask, modules[name]) for name, mask in masks.items()}
    cal.check_supports(surveys, supports, calibration)
    for name, kept in supports.items():
        problem = cal.problem(walk, walk, name, surveys[name], calibration)
        changed |= cal.solution(model, name, problem, cal.solve(problem, kept))
    return masks, changed
