"""Whole residual and dense units: without one, only what goes past it is left.

Soltani et al. 2020 (ICPR): α = 0 in U_l = α_l T_l(U_{l−1}) + A U_{l−1}.
"""

from __future__ import annotations

import torch
from torch import nn

from mint_cli.errors import SettingError
from mint_cli.granularity.filters import label_place, unreadable
from mint_cli.network import units as un
from mint_cli.network.couplings import LOGITS, Recorded
from mint_cli.protocol import Cells, Layer, Tensors

UNSHORTENED = "no shortcut goes past it"


def units(network: Recorded, layers: dict[str, Layer], /, *, stages: bool) -> dict[str, Cells]:
    """A cell a residual or dense unit, in the order of the pass: all parameters of its branch.

    One site; with ``stages`` one for all units whose outputs have the same shape.  What a dense unit
    makes is read by later layers, whose columns and entries of norms for it go with it.  What cannot
    go is named: units that are skipped, shared or not silent, and layers outside of units.  Raises
    SettingError where no unit can go.
    """
    found = un.find(network.model, network.pixels)
    fixed, chosen = dict(found.fixed), []
    for unit in found.units:
        why = obstacle(unit, network, layers)
        if why:
            fixed[unit.name] = why
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
    return {site: cells_of(own, network, fixed, solved) for site, own in sites.items()}


units.removable = True  # its cells can be taken out of a network physically


def obstacle(unit: un.Unit, network: Recorded, layers: dict[str, Layer]) -> str:
    """Why a unit must stay, or nothing."""
    skipped = [name for name in unit.layers if name not in layers]
    if skipped:
        return f"layer {skipped[0]} is skipped"
    if unit.kind == un.RESIDUAL:
        return ""
    coupled, maker = network.couplings, unit.layers[-1]
    if maker in coupled.fixed:
        return coupled.fixed[maker]
    modules = dict(network.model.named_modules())
    odd = [place for place in coupled.arrivals[maker] if unreadable(modules.get(place))]
    return f"{odd[0]} reads it, which cannot lose single channels" if odd else ""


def cells_of(
    units: list[un.Unit], network: Recorded, fixed: dict[str, str], solved: Tensors
) -> Cells:
    """Labels of the units of one site, and of what reads the dense ones among them."""
    modules = dict(network.model.named_modules())
    parameters = dict(network.model.named_parameters())
    labels: Tensors = {}
    reads: Tensors = {}
    for number, unit in enumerate(units):
        for name in unit.parameters:
            labels[name] = torch.full((len(parameters[name]),), number, dtype=torch.int32)
        if unit.kind == un.DENSE:
            for place, at in network.couplings.arrivals[unit.layers[-1]].items():
                if place != LOGITS:
                    label_place(reads, place, modules[place], torch.where(at >= 0, number, -1))
    reads = solved | {name: own.int() for name, own in reads.items()}
    return Cells((len(units),), labels, reads, tuple(unit.name for unit in units), fixed)


def solvable(units: list[un.Unit], model: nn.Module, layers: dict[str, Layer]) -> Tensors:
    """Labels −1 of all layers from the first unit on: what passes them changes with units before."""
    names = list(layers)
    after = names[min(names.index(unit.layers[0]) for unit in units) :]
    weights = {layers[n].weight: layers[n].shape[:2] for n in after if not layers[n].blind}
    return {name: torch.full(shape, -1, dtype=torch.int32) for name, shape in weights.items()}
