"""What each cell of the dense network carries for the logits given the cells still kept."""

from __future__ import annotations

from functools import partial

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
from mint_cli.protocol import Cells, Estimate, Images, Layer, Tensors, checked_by
from mint_cli.solver import channels, choice, rows, single, units
from mint_cli.solver.progress import once
from mint_cli.solver.rows import Calibration, Problem


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    calibration: Calibration,
    depth: int,
) -> None:
    """Images within the training set, rows for all inputs, layers that can be seen, an input to
    rank.
    """
    rows.check_images(calibration, len(labels))
    if all(is_unit(own) for own in cells.values()):
        return
    solved = rows.solved_layers(layers, cells)
    rows.check_solvable(layers, solved)
    rows.check_all_inputs(layers, solved, calibration)
    for own in cells.values():
        if not is_coupled(own):
            name = only_weight(own)
            rectangles(own, name, layers[name.removesuffix(".weight")].shape)
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
    """Information a weight that a layer loses for the logits when the cell goes in its turn.

    Times all the energy that they feel of it: in logits² (``choice.worth``), comparable between
    layers.  Inputs and targets are those of the dense network.  Every child group grows to the
    cells of ``depth`` inputs (columns of the flat weight), those that explain most; they are
    eliminated one by one, and the others score by what they would explain beside them.  Of coupled
    channels the losses of all layers that read them are summed, and all are eliminated. A whole
    unit scores what the logits lose of it where a linear map of what goes past stands in, in
    logits² a weight, each with all other units in place (``solver.units``).
    """
    source = rows.stream(images, calibration, rng)
    if all(is_unit(own) for own in cells.values()):
        return of_units(model, cells, source)
    surveys = rows.survey(model, rows.solved_layers(model, cells), source)
    names = list(surveys)  # in the order in which a pass calls them
    walk = Walk(model, names, still=True)
    waiting = {site: readers(own) for site, own in cells.items() if is_coupled(own)}
    parts: dict[str, list[channels.Part]] = {site: [] for site in waiting}
    estimates: dict[str, Estimate] = {}

    def problem_of(name: str) -> tuple[Problem, float]:
        problem = rows.problem(walk, walk, name, surveys[name], source)
        return problem, float(surveys[name].sensitivity.diagonal().mean())  # the metric's own is 1

    def alone(name: str) -> Tensors:
        return {"score": of_blocks(*problem_of(name), cells[name], depth)}

    for name in names:
        if name in cells and name not in waiting:
            score = once(name, partial(alone, name))["score"]
            estimates[name] = Estimate(score, additive=True)
            continue
        problem, unit = problem_of(name)
        for site in [one for one, left in waiting.items() if name in left]:
            own, owner = cells[site], waiting[site].pop(name)
            support = torch.ones_like(problem.module.weight.flatten(1), dtype=torch.bool)
            parts[site].append(channels.part(problem, support, owner, own.shape[0], unit))
            if not waiting[site]:
                order, rises = channels.eliminate(parts.pop(site), own.shape[0])
                cost = torch.zeros(own.shape, dtype=torch.float64)
                cost[order.cpu()] = rises.double().cpu()
                weights = total(own, parameters_of(model, own))
                estimates[site] = Estimate(choice.worth(cost) / weights, additive=True)
    return {site: estimates[site] for site in cells}


def of_units(model: nn.Module, cells: dict[str, Cells], source: rows.Stream) -> dict[str, Estimate]:
    """What the logits lose with every unit, a weight."""
    found = units.of_cells(model, cells, tuple(source.images.pixels.shape[1:]))
    lost = units.losses(model, [unit for own in found.values() for unit in own], source)
    parts = lost.split([len(own) for own in found.values()])
    estimates = {}
    for (site, own), part in zip(cells.items(), parts, strict=True):
        estimates[site] = Estimate(part / total(own, parameters_of(model, own)), additive=True)
    return estimates


def of_blocks(problem: Problem, unit: float, cells: Cells, depth: int) -> Tensor:
    """Worth a weight of the cells of one layer, the cells' shape."""
    if cells.shape == tuple(problem.module.weight.shape):
        inputs = torch.Size(cells.shape[1:]).numel()
        ready = single.ready(problem.equations, problem.metric, min(depth, inputs))
        return choice.worth(unit * single.costs(ready, beyond=True)).view(cells.shape)
    layer = choice.layer(problem, cells)
    count = min(len(layer.columns), -(-depth // layer.size))
    worth = choice.worth(unit * choice.costs(layer, count, beyond=True))
    return (worth / layer.weights).view(cells.shape)
