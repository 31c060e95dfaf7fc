"""Cells chosen anew inside every layer by what the logits lose without them, then re-solved; layer after layer."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from torch import Tensor, nn

from mint_cli.compensation.inputs import check_inputs, walks
from mint_cli.errors import SettingError
from mint_cli.network.cells import only_weight, rectangles
from mint_cli.protocol import Cells, Images, Kept, Layer, Tensors, checked_by
from mint_cli.solver import choice, rows
from mint_cli.solver.rows import Calibration


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    calibration: Calibration,
    inputs: str,
    growth: float,
    sweeps: int,
) -> None:
    """Images within the training set and rows for all inputs, layers that can be seen, growth that leaves something to eliminate."""
    rows.check_images(calibration, len(labels))
    rows.check_solvable(layers, cells)
    rows.check_all_inputs(layers, cells, calibration)
    check_inputs(inputs)
    for own, layer in ((cells[name], layers[name]) for name in cells):
        rectangles(own, only_weight(own), layer.shape)
    for name, low, high, value in (("growth", 1, 1000, growth), ("sweeps", 0, 100, sweeps)):
        if not low <= value <= high:
            raise SettingError(name, f"must lie between {low} and {high}", value)


@checked_by(check)
def reselect(
    model: nn.Module,
    cells: dict[str, Cells],
    kept: Kept,
    gone: Kept,
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    calibration: Calibration,
    inputs: str,
    growth: float,
    sweeps: int,
) -> tuple[Kept, Tensors]:
    """As ``refit``, but each layer keeps, of as many cells as were chosen, those whose loss the logits would feel most.

    Every child group grows to ``growth`` times the cells it keeps in the mean and is then eliminated
    down, always the cell that costs least given those still kept; first by itself, then ``sweeps``
    times given the errors of all the others.  Cells that are ``gone`` already stay so.
    """
    source = rows.stream(images, calibration, rng)
    pruned, chosen, changed = deepcopy(model), {}, {}
    dense, given = walks(model, pruned, list(cells), inputs)
    surveys = rows.survey(model, list(cells), source)
    for name, own in cells.items():
        problem = rows.problem(dense, given, name, surveys[name], source)
        chosen[name], weights = choice.choose(problem, own, kept[name], gone[name], growth, sweeps)
        found = rows.solution(model, name, problem, weights)
        pruned.load_state_dict(pruned.state_dict() | found)
        changed |= found
    return chosen, changed


reselect.chooses = True  # of the choice it is given only the counts matter
