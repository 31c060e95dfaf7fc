"""Kept weights re-solved by least squares, layer after layer, towards the outputs of the dense
network.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from torch import Tensor, nn

from mint_cli.compensation.inputs import check_inputs, walks
from mint_cli.network.cells import is_coupled, is_unit, masks_of
from mint_cli.network.layers import apply_masks, weighted_layers
from mint_cli.protocol import Cells, Images, Kept, Layer, Tensors, checked_by
from mint_cli.solver import rows
from mint_cli.solver.progress import once
from mint_cli.solver.rows import Calibration


def check(
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
    /,
    *,
    calibration: Calibration,
    inputs: str,
) -> None:
    """Images within the training set, layers that can be seen."""
    rows.check_images(calibration, len(labels))
    rows.check_solvable(layers, rows.solved_layers(layers, cells))
    check_inputs(inputs)


@checked_by(check)
def refit(
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
) -> tuple[Kept, Tensors]:
    """Kept weights W and biases b that minimise Σ weight · eᵀ A e + ridge · tr(A W Wᵀ), layer by
    layer.

    The sum runs over rows, e = W u + b − t; u is an input patch of the layer, ``inputs`` says in
    which network: the ``dense`` one, or the one ``pruned`` so far; t the dense network's output
    there (with pruned inputs plus what the shortcut that it is added to has lost), weight how much
    the logits feel the position, A how they feel two outputs at once.  Where whole units go, all
    layers that come after the first of them are solved.
    """
    source = rows.stream(images, calibration, rng)
    modules, pruned, changed = weighted_layers(model), deepcopy(model), {}
    surveys = rows.survey(model, rows.solved_layers(model, cells), source)
    masks = masks_of(cells, kept)  # layers below in the order in which a pass calls them
    supports = {name: rows.support(masks[f"{name}.weight"], modules[name]) for name in surveys}
    if any(is_unit(own) for own in cells.values()):
        own = dict(pruned.named_parameters())
        apply_masks(pruned, {name: mask for name, mask in masks.items() if name in own})
        supports = changing(supports)
    dense, given = walks(model, pruned, list(supports), inputs)
    rows.check_supports(surveys, supports, source)
    solve = rows.solve_rectangle if any(is_coupled(own) for own in cells.values()) else rows.solve
    for name, support in supports.items():

        def make(name: str = name, support: Tensor = support) -> Tensors:
            problem = rows.problem(dense, given, name, surveys[name], source)
            return rows.solution(model, name, problem, solve(problem, support))

        found = once(name, make)
        pruned.load_state_dict(pruned.state_dict() | found)
        changed |= found
    return kept, changed


def changing(supports: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of layers in the order of their calls those that have weights left, from the first that lost
    some on.
    """
    names = list(supports)
    first = next((i for i, name in enumerate(names) if not supports[name].all()), len(names))
    return {name: supports[name] for name in names[first:] if supports[name].any()}
