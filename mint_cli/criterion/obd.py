"""Optimal brain damage and surgeon in one shot: what a layer's error gains when a cell alone goes.

LeCun et al. 1990 (all other weights stay) and Hassibi & Stork 1993 (they are re-solved), for cells.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.errors import SettingError
from mint_cli.network.cells import (
    is_coupled,
    is_unit,
    only_weight,
    parameters_of,
    readers,
    rectangles,
    total,
)
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
    """Images within the training set, rows for all inputs, visible layers, cells that are pairs."""
    rows.check_images(calibration, len(labels))
    if any(is_unit(own) for own in cells.values()):
        raise SettingError(
            "granularity", "must be weights, blocks or filters: units have no reader"
        )
    solved = rows.solved_layers(layers, cells)
    rows.check_solvable(layers, solved)
    rows.check_all_inputs(layers, solved, calibration)
    for name, own in cells.items():
        if not is_coupled(own):
            rectangles(own, only_weight(own), layers[name].shape)


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
    block of H⁻¹ instead, which lets all other weights of its outputs answer.  Of whole channels the
    errors of all layers that read them are summed.
    """
    source = rows.stream(images, calibration, rng)
    surveys = rows.survey(model, rows.solved_layers(model, cells), source)
    walk = Walk(model, list(surveys), still=True)
    totals = {site: torch.zeros(own.shape, dtype=torch.float64) for site, own in cells.items()}
    for name, surveyed in surveys.items():
        problem = rows.problem(walk, walk, name, surveyed, source)
        unit = float(surveyed.sensitivity.diagonal().mean())  # the metric's own is 1
        for site, layer in cut(problem, name, cells):
            weight = problem.module.weight.detach().flatten(1)
            rise = unit * rises(layer, weight, resolved).flatten()
            own = totals[site].view(-1)
            own[: len(rise)] += rise[: len(own)]
    weights = {site: total(own, parameters_of(model, own)) for site, own in cells.items()}
    return {site: Estimate(totals[site] / weights[site]) for site in cells}


def cut(
    problem: rows.Problem, name: str, cells: dict[str, Cells]
) -> Iterator[tuple[str, choice.Layer]]:
    """The problem of a layer cut into the cells of every site that has parts of it.

    Of whole channels a layer has those that it reads; inputs of none of them come last.
    """
    for site, own in cells.items():
        if not is_coupled(own):
            if site == name:
                yield site, choice.layer(problem, own)
        elif name in (read := readers(own)):
            weight, owner = problem.module.weight, read[name]
            parent = torch.where(owner >= 0, owner, own.shape[0])
            parent = parent.repeat_interleave(weight[0].numel() // len(owner))
            child = torch.zeros(len(weight), dtype=torch.int64)
            yield site, choice.cut(problem.equations, problem.metric, child, parent)


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
