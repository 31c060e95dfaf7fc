"""Cells chosen anew inside every layer by what the logits lose without them, then re-solved."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.compensation.inputs import check_inputs, walks
from mint_cli.errors import SettingError
from mint_cli.network.cells import is_coupled, is_unit, masks_of, only_weight, readers, rectangles
from mint_cli.protocol import Cells, Images, Kept, Layer, Tensors, checked_by
from mint_cli.solver import channels, choice, rows
from mint_cli.solver.progress import once
from mint_cli.solver.rows import Calibration, Problem


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
    """Images within the training set, rows for all inputs, layers that can be seen, enough
    growth.
    """
    rows.check_images(calibration, len(labels))
    if any(is_unit(own) for own in cells.values()):
        bound = "must be blocks, weights or filters: whole units are chosen by their scores alone"
        raise SettingError("granularity", bound, hint="compensation refit solves what they leave")
    solved = rows.solved_layers(layers, cells)
    rows.check_solvable(layers, solved)
    rows.check_all_inputs(layers, solved, calibration)
    check_inputs(inputs)
    for own in cells.values():
        if not is_coupled(own):
            name = only_weight(own)
            rectangles(own, name, layers[name.removesuffix(".weight")].shape)
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
    """As ``refit``, but each layer keeps, of as many cells as were chosen, those the logits miss
    most.

    Every child group grows to ``growth`` times the cells it keeps in the mean and is then
    eliminated down, always the cell that costs least given those still kept; first by itself, then
    ``sweeps`` times given the errors of all the others.  Cells that are ``gone`` already stay so.
    """
    source = rows.stream(images, calibration, rng)
    pruned, kept, changed = deepcopy(model), dict(kept), {}
    surveys = rows.survey(model, rows.solved_layers(model, cells), source)
    names = list(surveys)  # in the order in which a pass calls them
    dense, given = walks(model, pruned, names, inputs)
    chosen = Chosen(cells, kept, gone)

    def problem_of(name: str) -> rows.Problem:
        return rows.problem(dense, given, name, surveys[name], source)

    def solved(name: str) -> Tensors:
        """What a layer's turn decides: weights, bias, and under ``kept/`` which cells of which
        sites stay.
        """
        problem = problem_of(name)
        if name in cells and not is_coupled(cells[name]):
            own = cells[name]
            stay, weights = choice.choose(problem, own, kept[name], gone[name], growth, sweeps)
            decided = {name: stay}
        else:
            decided = {site: None for site in chosen.waiting(name)}
            for site in decided:
                decided[site] = chosen.choose(site, {name: problem}, problem_of, surveys)
            weights = rows.solve_rectangle(problem, chosen.support(name, problem.module))
        marked = {f"{KEPT}{site}": stay for site, stay in decided.items()}
        return rows.solution(model, name, problem, weights) | marked

    for name in names:
        found = once(name, partial(solved, name))
        for key in [key for key in found if key.startswith(KEPT)]:
            chosen.decide(key.removeprefix(KEPT), found.pop(key))
        pruned.load_state_dict(pruned.state_dict() | found)
        changed |= found
    return kept, changed


KEPT = "kept/"


@dataclass
class Chosen:
    """Which channels of coupled sets stay, as far as it is decided; of the others all do."""

    cells: dict[str, Cells]
    kept: Kept  # as many as are to stay; what is decided replaces it
    gone: Kept
    decided: set[str] = field(default_factory=set)

    def waiting(self, name: str) -> list[str]:
        """Undecided sites that a layer reads."""
        coupled = {s: own for s, own in self.cells.items() if is_coupled(own)}
        found = [s for s, own in coupled.items() if name in readers(own)]
        return [site for site in found if site not in self.decided]

    def support(self, name: str, module: nn.Module) -> Tensor:
        """What a layer still has of its weight, bool (out, k)."""
        sites = {site: own for site, own in self.cells.items() if f"{name}.weight" in own.labels}
        now = {s: self.kept[s] if s in self.decided else ~self.gone[s] for s in sites}
        return rows.support(masks_of(sites, now)[f"{name}.weight"], module)

    def decide(self, site: str, stay: Tensor) -> None:
        """Note which cells of a site stay."""
        self.kept[site] = stay
        self.decided.add(site)

    def choose(
        self,
        site: str,
        known: dict[str, Problem],
        problem_of: Callable[[str], Problem],
        surveys: dict[str, rows.Survey],
    ) -> Tensor:
        """Decide a site: eliminate its channels, of all its readers, down to as many as are to
        stay.
        """
        own, parts = self.cells[site], []
        for name, owner in readers(own).items():
            problem = known.get(name) or problem_of(name)
            unit = float(surveys[name].sensitivity.diagonal().mean())
            support = self.support(name, problem.module)
            parts.append(channels.part(problem, support, owner, own.shape[0], unit))
        order, _ = channels.eliminate(parts, own.shape[0])
        turn = torch.empty(own.shape)
        turn[order.cpu()] = torch.arange(len(order), dtype=turn.dtype)
        turn[self.gone[site]] = -1.0  # what is gone stays so
        stay = torch.zeros(own.shape, dtype=torch.bool)
        stay[turn.argsort(stable=True)[int((~self.kept[site]).sum()) :]] = True
        self.decide(site, stay)
        return stay


reselect.chooses = True  # of the choice it is given only the counts matter
