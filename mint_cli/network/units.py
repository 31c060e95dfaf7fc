"""Residual and dense units of a network: found by what is added, or concatenated, to what it is
made of.

One recorded pass shows which call reads what which other has made.  A sum of two tensors of one
shape has a residual unit where one side is made of more layers than the other, the shortcut; the
unit's branch is what only this side needs.  A concatenation of channels has a dense unit where an
operand is made of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from mint_cli.errors import first_line
from mint_cli.network.couplings import (
    LOGITS,
    Arrivals,
    channels_of,
    codes,
    decoded,
    output_shapes,
    probed,
)
from mint_cli.network.layers import device_of, inference, weighted_layers
from mint_cli.network.observe import ADDITIONS

CONCATENATIONS = ("cat", "concat", "concatenate")  # functions that join channels, by name
RESIDUAL, DENSE = "residual", "dense"


@dataclass(frozen=True)
class Join:
    """Where a unit's output meets what goes past it: the number of the sum or concatenation in one
    pass.

    ``slot`` is the operand that the unit makes, ``past`` are the others that do not need it.
    """

    number: int
    slot: int
    past: tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """A residual or dense unit: all that only its branch needs."""

    name: str
    kind: str
    parameters: tuple[str, ...]  # all of them
    layers: tuple[str, ...]  # convolutions and linear layers, in the order of their calls
    shape: tuple[int, ...]  # of its output for one image
    axis: int  # of its channels: 1, or −1 where tokens come before
    joins: tuple[Join, ...]  # of a dense unit every concatenation that it enters


@dataclass
class Call:
    """One call of a pass: the calls that made what it reads, and the parameters that it reads."""

    made_of: set[int]
    parameters: list[str]
    needs: int  # bits: all calls that it needs, itself among them
    shape: tuple[int, ...]  # of its first result for one image


@dataclass
class Meeting:
    """A sum or a concatenation of channels: its call, and the call that made each operand (None: no
    call).
    """

    kind: str
    call: int
    operands: list[int | None]


def operands_of(
    function: Callable, arguments: tuple, settings: dict[str, Any]
) -> tuple[str, list[Any]]:
    """The kind of meeting that a call is, ``""`` if none, and the values that meet."""
    name = getattr(function, "__name__", "").strip("_")
    if name in ADDITIONS and settings.get("alpha", 1) == 1:
        values = [*arguments, *(settings[key] for key in ("input", "other") if key in settings)][:2]
        alike = len(values) == 2 and all(isinstance(x, Tensor) for x in values)
        return (RESIDUAL, values) if alike else ("", [])
    if name in CONCATENATIONS:
        values = list(arguments[0] if arguments else settings["tensors"])
        axis = arguments[1] if len(arguments) > 1 else settings.get("dim", settings.get("axis", 0))
        channels = isinstance(axis, int) and axis in (1, 1 - values[0].ndim)
        return (DENSE, values) if channels else ("", [])
    return "", []


class Recording(TorchFunctionMode):
    """One pass as calls that read one another's results."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.calls, self.meetings = (
            [Call(set(), [], 1, x.shape[1:])],
            [],
        )  # the images are the first
        self.maker, self.held = {id(x): 0}, [x]  # held, so that no other tensor gets an id

    def __torch_function__(self, function, types, arguments=(), settings=None):
        settings = settings or {}
        kind, values = operands_of(function, arguments, settings)
        shapes = {x.shape for x in values}
        operands = [self.maker.get(id(x)) for x in values]
        given = [x for x in tree_leaves((arguments, settings)) if isinstance(x, Tensor)]
        made_of = {self.maker[id(x)] for x in given if id(x) in self.maker}
        parameters = [self.names[id(x)] for x in given if id(x) in self.names]
        result = function(*arguments, **settings)
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if getattr(function, "__name__", "").strip("_") == "setitem":
            made = [arguments[0]]
        own = len(self.calls)
        if kind:  # of either kind all count, whether or not a unit is found there
            self.meetings.append(
                Meeting(kind if kind == DENSE or len(shapes) == 1 else "", own, operands)
            )
        made = [x for x in made if id(x) not in self.names]
        if made:
            needs = 1 << own
            for call in made_of:
                needs |= self.calls[call].needs
            self.calls.append(Call(made_of, parameters, needs, made[0].shape[1:]))
            for x in made:
                self.maker[id(x)] = own
                self.held.append(x)
        return result


@dataclass
class Found:
    """The units of a network, in the order in which they join, and why others are none."""

    units: list[Unit] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)


def find(model: nn.Module, pixels: tuple[int, ...]) -> Found:
    """The units of a network for images of shape ``pixels``.

    A unit's branch is read by nothing but the sum or concatenations where it joins, shares no
    parameter with anything else, holds no other unit, and gives zeros once its parameters are 0.
    """
    x = torch.zeros(1, *pixels, device=device_of(model))
    seen = Recording(model, x)
    with inference(model), seen:
        model(x)
    branches = dict(sorted(branches_of(seen, layers_by_weight(model)).items()))
    drafts = {end: draft(seen, model, end, *branch) for end, branch in branches.items()}
    titles = named({end: unit for end, (unit, _) in drafts.items()})
    found = Found()
    for end, (unit, why) in drafts.items():
        unit = replace(unit, name=titles[end])
        inner = [o for o in branches if o != end and branches[o][0] & ~branches[end][0] == 0]
        why = why or (f"it holds the unit {titles[inner[0]]}" if inner else "")
        if why:
            found.fixed[unit.name] = why
        else:
            found.units.append(unit)
    for unit in silent(model, found.units, pixels):
        found.units.remove(unit)
        found.fixed[unit.name] = "it does not give zeros where all its parameters are 0"
    return found


def layers_by_weight(model: nn.Module) -> dict[str, str]:
    """Names of convolutions and linear layers by the names of their weights."""
    return {f"{name}.weight" if name else "weight": name for name in weighted_layers(model)}


def bits(number: int) -> Iterator[int]:
    """Where a number has a 1, from the lowest on."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def branches_of(seen: Recording, layers: dict[str, str]) -> dict[int, tuple[int, str, list[Join]]]:
    """By the last call of every branch its calls as bits, its kind and where it joins."""
    found: dict[int, tuple[int, str, list[Join]]] = {}
    calls = seen.calls

    def weighted(own: int) -> int:
        return len({p for call in bits(own) for p in calls[call].parameters if p in layers})

    for number, meeting in enumerate(seen.meetings):
        ends = meeting.operands
        for slot, end in enumerate(ends):
            if end is None:
                continue
            if meeting.kind == DENSE:
                past = [
                    i for i, o in enumerate(ends) if o is not None and not calls[o].needs >> end & 1
                ]
                joined = any(calls[end].needs >> ends[i] & 1 for i in past)
            else:
                past = [1 - slot] if meeting.kind and ends[1 - slot] not in (None, end) else []
                joined = bool(past) and bool(calls[end].needs & calls[ends[past[0]]].needs)
            own = calls[end].needs
            for i in past:
                own &= ~calls[ends[i]].needs
            if not joined or not weighted(own):
                continue
            if meeting.kind == RESIDUAL:
                other = calls[ends[past[0]]].needs & ~calls[end].needs
                if weighted(own) <= weighted(other):
                    continue
            joins = found.setdefault(end, (own, meeting.kind, []))[2]
            joins.append(Join(number, slot, tuple(past)))
    return found


def draft(
    seen: Recording, model: nn.Module, end: int, own: int, kind: str, joins: list[Join]
) -> tuple[Unit, str]:
    """A unit that has no name yet, and why it is none, or nothing."""
    by_weight, inside = layers_by_weight(model), set(bits(own))
    used = [p for call in sorted(inside) for p in seen.calls[call].parameters]
    own_layers = tuple(dict.fromkeys(by_weight[p] for p in used if p in by_weight))
    parameters = tuple(dict.fromkeys(used))
    shape, last = tuple(seen.calls[end].shape), model.get_submodule(own_layers[-1])
    tokens = isinstance(last, nn.Linear) and shape[-1:] == (last.out_features,) and kind == RESIDUAL
    unit = Unit("", kind, parameters, own_layers, shape, -1 if tokens else 1, tuple(joins))
    ends = {seen.meetings[join.number].call for join in joins}
    held = dict(model.named_parameters())
    for number, call in enumerate(seen.calls):
        if own >> number & 1:
            continue
        shared = [p for p in call.parameters if p in parameters]
        if shared:
            return unit, f"something else uses {shared[0]}"
        allowed = {end} if number in ends else set()
        if call.made_of & inside - allowed:
            return unit, "something else reads what its branch makes"
    if any(held[p].ndim == 0 for p in parameters):
        return unit, "a parameter of it is a single number"
    return unit, ""


def named(units: dict[int, Unit]) -> dict[int, str]:
    """What units are called: by the module that holds all of one, else by its first layer."""
    found = {}
    for end, unit in units.items():
        parts = [name.split(".")[:-1] for name in unit.parameters]
        common = parts[0]
        for other in parts[1:]:
            same = next(
                (i for i, (a, b) in enumerate(zip(common, other, strict=False)) if a != b), None
            )
            common = common[: len(other)] if same is None else common[:same]
        found[end] = ".".join(common)
    taken = list(found.values())
    return {
        end: name if name and taken.count(name) == 1 else units[end].layers[0]
        for end, name in found.items()
    }


def maps(unit: Unit, x: Tensor) -> Tensor:
    """What meets where a unit joins as (n, channels, positions)."""
    x = x.movedim(unit.axis, 1)
    return x.flatten(2) if x.ndim > 2 else x[:, :, None]


def arrivals(
    model: nn.Module, pixels: tuple[int, ...], units: list[Unit]
) -> tuple[dict[str, Tensor], str]:
    """The unit whose output arrives at each channel of every place, int64 (−1 none), and why that
    is not known.

    One pass with NaNs in the units' outputs, each by a code of its own, while every layer that
    makes channels gives zeros (``couplings``).
    """
    code, shapes = codes(len(units)), output_shapes(model, pixels)
    seen = Arrivals(len(code))

    def mark(number: int, own: Tensor, past: list[Tensor]) -> Tensor:
        bad = code[:, number].to(own.device).view(-1, *[1] * (own.ndim - 1))
        return torch.where(bad, torch.nan, torch.zeros_like(own))

    x = torch.zeros(len(code), *pixels, device=device_of(model))
    with inference(model), probed(model, shapes, {}, seen), Joining(units, mark, first=False):
        try:
            logits = model(x)
        except (RuntimeError, ValueError, IndexError) as error:
            return {}, f"a network of NaNs cannot be run ({first_line(error)})"
    seen.places[LOGITS].append(channels_of(None, logits))
    found = {}
    for place, rows in seen.places.items():
        at, several = decoded(torch.stack(rows).any(0))
        if not (at >= 0).any():
            continue
        if several or len(rows) > 1:
            why = "its channels are mixed before" if several else "it is read more than once by"
            return {}, f"{why} {place}"
        if place == LOGITS:
            return {}, "its channels are the network's outputs"
        found[place] = at
    return found, ""


def gone(model: nn.Module, units: list[Unit]) -> list[Unit]:
    """Units of which nothing is left: all parameters are 0."""
    held = dict(model.named_parameters())
    return [unit for unit in units if not any(held[name].any() for name in unit.parameters)]


def modules_of(unit: Unit) -> list[str]:
    """Modules that hold the parameters of a unit."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in unit.parameters))


Hook = Callable[[int, Tensor, list[Tensor]], Tensor | None]


class Joining(TorchFunctionMode):
    """Within it ``hook`` is given what meets where units join: the unit's number, its output, the
    others.

    A tensor that it returns takes the place of the unit's output there.
    """

    def __init__(self, units: list[Unit], hook: Hook, first: bool = True) -> None:
        super().__init__()
        self.hook, self.number, self.at = hook, 0, {}
        for number, unit in enumerate(units):
            for join in unit.joins[: 1 if first else None]:
                self.at.setdefault(join.number, []).append((number, join))

    def __torch_function__(self, function, types, arguments=(), settings=None):
        settings = settings or {}
        kind, values = operands_of(function, arguments, settings)
        if kind:
            number, self.number = self.number, self.number + 1
            given = list(values)
            for unit, join in self.at.get(number, ()):
                instead = self.hook(unit, given[join.slot], [given[i] for i in join.past])
                if instead is not None:
                    values[join.slot] = instead
            if any(one is not other for one, other in zip(values, given, strict=True)):
                return function(*values) if kind == RESIDUAL else function(values, dim=1)
        return function(*arguments, **settings)


def silent(model: nn.Module, units: list[Unit], pixels: tuple[int, ...]) -> list[Unit]:
    """Units that give something else than zeros once all their parameters are 0."""
    dark, loud = deepcopy(model), set()
    with torch.no_grad():
        for name, p in dark.named_parameters():
            if any(name in unit.parameters for unit in units):
                p.zero_()

    def note(number: int, own: Tensor, past: list[Tensor]) -> None:
        if own.any():
            loud.add(number)

    x = torch.rand(2, *pixels, generator=torch.Generator().manual_seed(0)).to(device_of(model))
    with inference(dark), Joining(units, note):
        dark(x)
    return [unit for number, unit in enumerate(units) if number in loud]
