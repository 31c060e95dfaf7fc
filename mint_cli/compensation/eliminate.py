"""Groups chosen anew inside every layer by the information they carry given those still kept, then re-solved; layer after layer."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli import calibration as cal
from mint_cli import group
from mint_cli import least_squares as ls
from mint_cli.group import Groups
from mint_cli.network import weighted_layers
from mint_cli.protocol import Images, Masks, SettingError, Tensors

WORKSPACE = 2**28  # numbers in the inverses that are downdated side by side: 1 GiB


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
    ridge: float,
    batch_size: int,
    noise: float,
    child_groups: Groups,
    parent_groups: Groups,
) -> tuple[Masks, Tensors]:
    """As ``sequential``, but each layer keeps, of as many connections as its mask, those that carry most information given the rest.

    Group after group goes, always the one whose loss the logits feel least.  An output that is left with the unexplained
    variance R loses ½ log(1 + Δ / (R + σ²)) nats as a group goes, Δ the exact rise of R given the groups still kept.  σ² is
    ``noise``, a variance in the logits, divided by how much the logits feel the output (squared Jacobian): a small noise
    counts losses in proportion to what each output has left, a large one by what they do to the logits.
    """
    if noise <= 0:
        raise SettingError(f"pruner.compensation.noise must be above 0, not {noise}")
    calibration = cal.start(images, rng, calibration_images, positions, measured, ridge, batch_size)
    modules, pruned, chosen, changed = weighted_layers(model), deepcopy(model), {}, {}
    surveys = cal.survey(model, list(masks), calibration)
    cal.check_rows(surveys, {name: modules[name].weight[0].numel() for name in masks}, calibration)
    for name, mask in masks.items():
        child = group.labels(mask.shape[0], group.count(child_groups, name, mask.shape[0], "child_groups")).to(mask.device)
        parent = group.labels(mask.shape[1], group.count(parent_groups, name, mask.shape[1], "parent_groups")).to(mask.device)
        problem = cal.problem(model, pruned, name, surveys[name], calibration)
        chosen[name] = choose(problem.equations, surveys[name].importance, noise, mask, child, parent)
        found = cal.solution(model, name, problem, ls.solve(problem.equations, cal.support(chosen[name], modules[name])))
        pruned.load_state_dict(pruned.state_dict() | found)
        changed |= found
    return chosen, changed


def check(shapes: dict[str, tuple[int, int]], labels: Tensor, /, **settings) -> None:
    """Images within the training set, groups within the channels."""
    cal.check(shapes, labels, **settings)
    group.check(shapes, settings["child_groups"], settings["parent_groups"])


def choose(equations: ls.Normal, importance: Tensor, noise: float, mask: Tensor, child: Tensor, parent: Tensor) -> Tensor:
    """A mask (out, in) with as many blocks of every size removed as ``mask``, those that carry least."""
    cost = costs(equations, importance, noise, child, parent).to(mask.device)
    sizes = torch.bincount(child)[:, None] * torch.bincount(parent)[None, :]
    removed = group.block_mean(mask, child, parent).to(cost) == 0
    kept = torch.ones_like(removed)
    for size in sizes.unique():
        cells = (sizes == size).flatten().nonzero()[:, 0]
        gone = cells[cost.flatten()[cells].argsort(stable=True)[: int(removed.flatten()[cells].sum())]]
        kept.view(-1)[gone] = False
    return group.expand(kept, child, parent)


def costs(equations: ls.Normal, importance: Tensor, noise: float, child: Tensor, parent: Tensor) -> Tensor:
    """Nats that the outputs lose when each block goes in its turn: (child groups, parent groups), float64, never falling in turn."""
    columns = ls.blocks(parent, len(equations.gram) // len(parent)).to(equations.gram.device)
    inverse, weights = ls.padded(equations, columns)
    unexplained = ls.residual(equations, ls.solve(equations, torch.ones_like(equations.cross.T, dtype=torch.bool))).clamp_min(0.0)
    members = [(child == c).nonzero()[:, 0] for c in range(int(child.max()) + 1)]
    result = torch.zeros(len(members), len(columns), dtype=torch.float64, device=inverse.device)
    at_once = max(1, WORKSPACE // inverse.numel())
    pad = torch.nn.utils.rnn.pad_sequence
    for first in range(0, len(members), at_once):
        some = slice(first, first + at_once)
        rows = pad([weights[m] for m in members[some]], batch_first=True)
        felt = pad([importance[m].float() for m in members[some]], batch_first=True)
        order, rises = ls.eliminate(inverse, rows, felt, columns.shape[1])
        left = pad([unexplained[m] for m in members[some]], batch_first=True)
        nats = information(rises.double(), left[:, None], noise / felt.double()[:, None]).sum(2)  # unfelt outputs: infinite noise, 0 nats
        result[some].scatter_(1, order, nats.cummax(1).values)
    return result


def information(rises: Tensor, residual: Tensor, noise: Tensor) -> Tensor:
    """Nats that each step loses, ½ log of the ratio of what is left unexplained after and before it, noise included: (b, steps, m)."""
    before = residual + rises.cumsum(1) - rises
    return torch.log1p(rises / (before + noise)) / 2
