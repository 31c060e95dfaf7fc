"""Optimal brain damage and surgeon in one shot: what a layer's error gains when a cell alone goes.

LeCun et al. 1990 (all other weights stay) and Hassibi & Stork 1993 (they are re-solved), for cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.network.cells import only_weight, rectangles
from mint_cli.network.replay import Walk
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by
from mint_cli.solver import choice, rows
from mint_cli.solver.equations import factor
from mint_cli.solver.rows import Calibration


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    calibration: Calibration,
    resolved: bool,
) -> None:
    """Images within the training set, cells of one layer, rows for all inputs, visible layers."""
    rows.check_images(calibration, len(labels))
    weights = {name: only_weight(own) for name, own in cells.items()}
    rows.check_solvable(layers, weights)
    rows.check_all_inputs(layers, weights, calibration)
    for name, weight in weights.items():
        rectangles(cells[name], weight, layers[name].shape)


@checked_by(check)
def obd(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    calibration: Calibration,
    resolved: bool,
) -> dict[str, Estimate]:
    """tr(A w H wᵀ) of every cell in the dense network, per weight, in logits².

    w (outputs, inputs) are the cell's weights as they are, A says how the logits feel pairs of its
    outputs, H is the regularised covariance of its inputs; ``resolved``: the inverse of the cell's
    block of H⁻¹ instead, which lets all other weights of its outputs answer.
    """
    source = rows.stream(images, calibration, rng)
    walk, estimates = Walk(model, list(cells), still=True), {}
    surveys = rows.survey(model, list(cells), source)
    for name, own in cells.items():
        problem = rows.problem(walk, walk, name, surveys[name], source)
        layer = choice.layer(problem, own)
        unit = float(surveys[name].sensitivity.diagonal().mean())  # the metric's own is 1
        rise = unit * rises(layer, problem.module.weight.detach().flatten(1), resolved)
        estimates[name] = Estimate((rise / layer.weights).view(own.shape))
    return estimates


def rises(layer: choice.Layer, weight: Tensor, resolved: bool) -> Tensor:
    """Rise of the error that the logits feel when a cell of ``weight`` (out, k) alone goes.

    (child groups, parents), errors of other child groups left out.
    """
    parents, size = layer.columns.shape
    order, idle = layer.columns.flatten().clamp_min(0), layer.columns.flatten() < 0
    weight, gram, found = weight.double(), layer.gram.double(), []
    parts = weight[:, order].masked_fill(idle, 0.0).view(-1, parents, size).transpose(0, 1)
    inner = diagonal_blocks(gram, size)
    if resolved:
        inverse = torch.cholesky_inverse(factor(gram))
        inner = torch.linalg.inv(diagonal_blocks(inverse, size))
    for rows_of_child in layer.members:
        own = parts[:, rows_of_child]  # (parents, outputs, size)
        metric = layer.metric[rows_of_child][:, rows_of_child].double()
        found.append(((own @ inner @ own.transpose(1, 2)) * metric).sum((1, 2)))
    return torch.stack(found).cpu()


def diagonal_blocks(matrix: Tensor, size: int) -> Tensor:
    """The square blocks of ``size`` on the diagonal of a matrix, (blocks, size, size)."""
    count = len(matrix) // size
    return matrix.view(count, size, count, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
