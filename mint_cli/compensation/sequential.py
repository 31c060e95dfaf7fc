"""Layer after layer re-solved: inputs as the layers before, already pruned, deliver them, targets of the dense network."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from torch import nn

from mint_cli.solver import rows as cal
from mint_cli.solver.rows import check as check  # before any work
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Images, Masks, Tensors
from mint_cli.network.replay import Walk


def sequential(
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
    """Kept weights W and biases b that minimise Σ weight · eᵀ A e + ridge · tr(A W Wᵀ), e = W u + b − t, over rows, layer by layer.

    u is an input patch of the layer in the network pruned so far, t the dense network's output there (plus what the shortcut
    that it is added to has lost), weight how much the logits feel the position, A how they feel two outputs at once.
    """
    calibration = cal.start(images, rng, calibration_images, positions, measured, joint, ridge, batch_size)
    modules, pruned, changed = weighted_layers(model), deepcopy(model), {}
    dense, prefix = Walk(model, list(masks)), Walk(pruned, list(masks))
    surveys = cal.survey(model, list(masks), calibration)
    supports = {name: cal.support(mask, modules[name]) for name, mask in masks.items()}
    cal.check_supports(surveys, supports, calibration)
    for name, kept in supports.items():
        problem = cal.problem(dense, prefix, name, surveys[name], calibration)
        found = cal.solution(model, name, problem, cal.solve(problem, kept))
        pruned.load_state_dict(pruned.state_dict() | found)
        changed |= found
    return masks, changed
