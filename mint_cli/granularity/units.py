"""Whole residual and dense units: without one, only what goes past it is left.

Soltani et al. 2020 (ICPR): α = 0 in U_l = α_l T_l(U_{l−1}) + A U_{l−1}.
"""

from __future__ import annotations

import torch
from torch import nn

from mint_cli.errors import SettingError
from mint_cli.granularity.filters import label_place, unreadable
from mint_cli.network import units as un
from mint_cli.network.couplings import Recorded
from mint_cli.protocol import Cells, Layer, Tensors

UNSHORTENED = "no shortcut goes past it"


def units(network: Recorded, layers: dict[str, Layer], /, *, stages: bool) -> dict[str, Cells]:
    """A cell a residual or dense unit, in the order of the pass: all parameters of its branch.

    One site; with ``stages`` one for all units whose outputs have the same shape.  What a dense
    unit makes is read by later layers, whose columns and entries of norms for it go with it.  What
    cannot go is named: units that are skipped, shared or not silent, and layers outside of units.
    Raises SettingError where no unit can go.
    """
    found = un.find(network.model, network.pixels)
    dense = [unit for unit in found.units if unit.kind == un.DENSE]
    places, unknown = {}, ""
    if dense:
        places, unknown = un.arrivals(network.model, network.pixels, dense)
    modules = dict(network.model.named_modules())
    odd = {
        dense[i]: p
        for p, at in places.items()
        if unreadable(modules[p])
        for i in at[at >= 0].tolist()
    }
    fixed, chosen = dict(found.fixed), []
    for unit in found.units:
        skipped = [name for name in unit.layers if name not in layers]
        if skipped:
            fixed[unit.name] = f"layer {skipped[0]} is skipped"
        elif unit.kind == un.DENSE and unknown:
            fixed[unit.name] = unknown
        elif unit in odd:
            fixed[unit.name] = f"{odd[unit]} reads it, which cannot lose single channels"
        else:
            chosen.append(unit)
    if not chosen:
        reason = "; ".join(f"{name}: {why}" for name, why in list(fixed.items())[:3])
        hint = reason or "units are what resnets, mobilenets and densenets are built of"
        raise SettingError("granularity", "finds no residual or dense unit that can go", hint=hint)
    inside = {name for unit in found.units for name in unit.layers}
    fixed |= {name: UNSHORTENED for name in layers if name not in inside and name not in fixed}
    sites = {"units": chosen}
    if stages:
        shapes = dict.fromkeys(unit.shape for unit in chosen)
        sites = {f"units{i}": [u for u in chosen if u.shape == s] for i, s in enumerate(shapes, 1)}
    solved = solvable(chosen, network.model, layers)
    made = {
        place: [dense[i] if i >= 0 else None for i in at.tolist()] for place, at in places.items()
    }
    return {site: cells_of(own, network.model, fixed, solved, made) for site, own in sites.items()}


units.removable = True  # its cells can be taken out of a network physically


def cells_of(
    units: list[un.Unit],
    model: nn.Module,
    fixed: dict[str, str],
    solved: Tensors,
    made: dict[str, list[un.Unit | None]],
) -> Cells:
    """Labels of the units of one site, and of what reads the dense ones among them.

    ``made`` says by which unit each channel of a place is made, if by one.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    numbers = {unit: number for number, unit in enumerate(units)}
    labels = {
        name: torch.full((len(parameters[name]),), number, dtype=torch.int32)
        for unit, number in numbers.items()
        for name in unit.parameters
    }
    reads: Tensors = {}
    for place, makers in made.items():
        entering = torch.tensor([numbers.get(unit, -1) for unit in makers])
        if (entering >= 0).any():
            label_place(reads, place, modules[place], entering)
    reads = solved | {name: own.int() for name, own in reads.items()}
    return Cells((len(units),), labels, reads, tuple(unit.name for unit in units), fixed)


def solvable(units: list[un.Unit], model: nn.Module, layers: dict[str, Layer]) -> Tensors:
    """Labels −1 of all layers from the first unit on: what passes them changes with units
    before.
    """
    names = list(layers)
    after = names[min(names.index(unit.layers[0]) for unit in units) :]
    weights = {layers[n].weight: layers[n].shape[:2] for n in after if not layers[n].blind}
    return {name: torch.full(shape, -1, dtype=torch.int32) for name, shape in weights.items()}
