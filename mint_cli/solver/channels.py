"""Whole channels of a coupled set: what their readers lose without each, given those still kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mint_cli.solver.choice import root
from mint_cli.solver.equations import factor
from mint_cli.solver.rows import Problem


@dataclass
class Part:
    """What one reader has of a set of channels: the inverse of its equations and its weights there.

    Columns lie channel by channel, ``size`` each, filled up with idle ones that cost nothing.
    """

    inverse: Tensor  # (channels · size, channels · size) float32
    weights: Tensor  # (outputs, channels · size) float32: outputs as the logits feel them
    size: int


def columns_of(owner: Tensor, channels: int) -> Tensor:
    """Columns of every channel, int64 (channels, size), from the owner of each (k,); −1
    fills up.
    """
    columns = [(owner == c).nonzero()[:, 0] for c in range(channels)]
    return torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=-1)


def part(problem: Problem, support: Tensor, owner: Tensor, channels: int, unit: float) -> Part:
    """The part of a reader, given that of the rest it has ``support`` (out, k), a rectangle.

    ``owner`` (in,) says to which channel each of its inputs belongs; ``unit`` is what the logits
    feel of an error of its outputs, logits² per output².  Outputs that are gone do not count.
    """
    stay_rows, stay = support.any(1), support.any(0)
    equations = problem.equations
    kernel = len(equations.gram) // len(owner)
    columns = columns_of(owner.repeat_interleave(kernel), channels).to(stay.device)
    at = stay.nonzero()[:, 0]
    lower = factor(equations.gram[at][:, at])
    half = root(problem.metric[stay_rows][:, stay_rows]).double()
    weights = torch.cholesky_solve(equations.cross[at][:, stay_rows], lower).T
    inverse = torch.cholesky_inverse(lower)
    place = torch.full((len(stay) + 1,), -1, device=stay.device)
    place[at] = torch.arange(len(at), device=stay.device)
    order = place[columns.flatten()]  # −1 picks the last, which is idle
    idle = order < 0
    own = inverse[order][:, order].masked_fill(idle[:, None] | idle[None, :], 0.0)
    own.diagonal().masked_fill_(idle, 1.0)
    felt = (half @ weights[:, order]).masked_fill(idle, 0.0) * unit**0.5
    return Part(own.float(), felt.float(), columns.shape[1])


def eliminate(parts: list[Part], channels: int) -> tuple[Tensor, Tensor]:
    """Remove channel after channel, always the one that costs all readers together least.

    Costs are given those still kept.  Returns the order, int64 (channels,), first gone first, and
    the rise of the readers' felt error at every step, never falling: the block form of optimal
    brain surgeon (Hassibi & Stork 1993), summed over readers.
    """
    device = parts[0].inverse.device
    names = torch.arange(channels, device=device)
    gone = torch.zeros(channels, dtype=torch.bool, device=device)
    order, rises, lost = names.clone(), torch.empty(channels, device=device), 0
    parts = [Part(p.inverse.clone(), p.weights.clone(), p.size) for p in parts]
    for step in range(channels):
        inner = [inverted(p, gone) for p in parts]
        rise = sum(costs(p, own) for p, own in zip(parts, inner, strict=True))
        rise = rise.masked_fill(gone, torch.inf)
        at = int(rise.argmin())
        order[step], rises[step] = names[at], rise[at]
        for p, own in zip(parts, inner, strict=True):
            remove(p, own[at], at)
        gone[at] = True
        lost += 1
        if lost * 8 >= len(names) > 1:  # what is gone takes no part any more
            left, lost = (~gone).nonzero()[:, 0], 0
            names, gone = names[left], torch.zeros_like(left, dtype=torch.bool)
            parts = [narrowed(p, left) for p in parts]
    return order, rises.clamp_min(0.0).cummax(0).values


def inverted(p: Part, gone: Tensor) -> Tensor:
    """Inverses of every channel's own block, (channels, size, size); the identity of those gone."""
    n = len(gone)
    own = p.inverse.view(n, p.size, n, p.size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    eye = torch.eye(p.size, dtype=own.dtype, device=own.device)
    return torch.linalg.inv(torch.where(gone[:, None, None], eye, own))


def costs(p: Part, inner: Tensor) -> Tensor:
    """What a reader loses with every channel, (channels,)."""
    blocks = p.weights.view(len(p.weights), -1, p.size).transpose(0, 1)
    return ((blocks @ inner) * blocks).sum((1, 2))


def remove(p: Part, inner: Tensor, at: int) -> None:
    """Take a channel out of a reader's inverse and weights, in place: the others are re-solved by
    that.
    """
    span = slice(at * p.size, (at + 1) * p.size)
    columns = p.inverse[:, span].clone()
    share = columns @ inner
    p.weights.addmm_(p.weights[:, span].clone(), share.T, alpha=-1)
    p.inverse.addmm_(share, columns.T, alpha=-1)
    p.weights[:, span] = 0.0


def narrowed(p: Part, left: Tensor) -> Part:
    """A part with only the channels that are left."""
    at = (left[:, None] * p.size + torch.arange(p.size, device=left.device)).flatten()
    return Part(p.inverse[at][:, at].contiguous(), p.weights[:, at].contiguous(), p.size)
