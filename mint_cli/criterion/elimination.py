"""What each cell carries for the logits given the cells still kept, comparable between layers; on the dense network."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from mint_cli.errors import SettingError
from mint_cli.network.cells import only_weight, rectangles
from mint_cli.network.replay import Walk
from mint_cli.protocol import Cells, Estimate, Images, Layer, checked_by
from mint_cli.solver import choice, rows
from mint_cli.solver.rows import Calibration


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    calibration: Calibration,
    depth: int,
) -> None:
    """Images within the training set and rows for all inputs, layers that can be seen, at least one input to rank."""
    rows.check_images(calibration, len(labels))
    rows.check_solvable(layers, cells)
    rows.check_all_inputs(layers, cells, calibration)
    for name, own in cells.items():
        rectangles(own, only_weight(own), layers[name].shape)
    if depth < 1:
        raise SettingError("depth", "must be at least 1", depth)


@checked_by(check)
def elimination(
    model: nn.Module,
    cells: dict[str, Cells],
    images: Images,
    rng: np.random.Generator,
    /,
    *,
    calibration: Calibration,
    depth: int,
) -> dict[str, Estimate]:
    """Information a weight that a layer loses for the logits when the cell goes in its turn, times all the energy that they feel of it.

    In logits² (``choice.worth``).  Inputs and targets are those of the dense network.  Every child
    group grows to the cells of ``depth`` inputs (columns of the flat weight), those that explain most;
    they are eliminated one by one, and the others score by what they would explain beside them.
    """
    source = rows.stream(images, calibration, rng)
    walk, estimates = Walk(model, list(cells)), {}
    surveys = rows.survey(model, list(cells), source)
    for name, own in cells.items():
        problem = rows.problem(walk, walk, name, surveys[name], source)
        layer = choice.layer(problem, own)
        unit = float(surveys[name].sensitivity.diagonal().mean())  # the metric's own is 1
        count = min(len(layer.columns), -(-depth // layer.size))
        worth = choice.worth(unit * choice.costs(layer, count, beyond=True))
        estimates[name] = Estimate((worth / layer.weights).view(own.shape))
    return estimates
