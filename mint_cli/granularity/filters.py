"""Whole channels, wherever they are made and read.

Li et al. 2017; coupled as in Fang et al. 2023, arXiv 2301.12900.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from mint_cli.errors import SettingError
from mint_cli.network.couplings import LOGITS, Couplings, Recorded, depthwise
from mint_cli.network.layers import CONVOLUTIONS
from mint_cli.protocol import Cells, Layer, Tensors

Channel = tuple[str, int]  # of a maker
CIRCLE = "layers read the channels that they add to, so that a weight would belong to two of them"
MET = "its channels meet some that stay"


def filters(network: Recorded, layers: dict[str, Layer], /, *, residual: bool) -> dict[str, Cells]:
    """One site a coupled set of layers, a cell a channel.

    Its rows are those of the layers that make it, its columns those of the layers that read it.
    Biases and entries of batch norms belong to it, too.  Channels that meet by addition,
    concatenation or product are one cell.  ``residual`` also gives the channels that several layers
    add to, the stream of a residual network.  Raises SettingError where no channel can go.
    """
    coupled, modules = network.couplings, dict(network.model.named_modules())
    fixed = fixed_makers(coupled, modules, layers, residual)
    groups = components(coupled, fixed)
    if not groups:
        reason = "; ".join(
            f"{maker or 'the images'}: {why}" for maker, why in list(fixed.items())[:3]
        )
        raise SettingError("skip", "leaves no channel that can go as a whole", hint=reason)
    sites = {site: own for site, own in by_site(groups).items() if not reads_itself(own, coupled)}
    if not sites:
        raise SettingError("skip", "leaves no channel that can go as a whole", hint=CIRCLE)
    return {site: cells_of(own, coupled, modules) for site, own in sites.items()}


filters.removable = True  # its cells can be taken out of a network physically


def staying(network: Recorded, layers: dict[str, Layer], residual: bool) -> dict[str, str]:
    """Makers of which no channel can go (the images among them, as ""), and why."""
    coupled, modules = network.couplings, dict(network.model.named_modules())
    fixed = fixed_makers(coupled, modules, layers, residual)
    reasons = dict.fromkeys(coupled.channels, MET)
    for own in by_site(components(coupled, fixed)).values():
        circle = reads_itself(own, coupled)
        for maker in {maker for group in own for maker, _ in group}:
            reasons[maker] = CIRCLE if circle else ""
    reasons |= fixed
    return {maker: why for maker, why in reasons.items() if why}


def fixed_makers(
    coupled: Couplings, modules: dict[str, nn.Module], layers: dict[str, Layer], residual: bool
) -> dict[str, str]:
    """Makers whose channels all stay, and why."""
    fixed = dict(coupled.fixed)
    for maker, arrivals in coupled.arrivals.items():
        if maker in fixed:
            continue
        if maker not in layers:
            fixed[maker] = "it is skipped, or no layer that can be pruned"
        elif unreadable(modules[maker]):
            fixed[maker] = "it is a grouped convolution, which cannot lose single channels"
        elif layers[maker].calls > 1:
            fixed[maker] = f"one forward pass calls it {layers[maker].calls} times"
        elif maker in coupled.added and not residual:
            fixed[maker] = "its channels are added to those of others (granularity.residual)"
        else:
            odd = [place for place in arrivals if unreadable(modules.get(place))]
            if odd:
                fixed[maker] = f"{odd[0]} reads it, which cannot lose single channels"
    return fixed


def unreadable(module: nn.Module | None) -> bool:
    """Whether a module reads channels in a way that single ones cannot be taken from."""
    if isinstance(module, nn.Conv2d):
        return module.groups > 1 and not depthwise(module)
    return isinstance(module, CONVOLUTIONS)


def components(coupled: Couplings, fixed: dict[str, str]) -> list[list[Channel]]:
    """Channels that meet at some place, together; none that meets one that must stay."""
    parent: dict[Channel, Channel] = {}

    def find(one: Channel) -> Channel:
        root = one
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[one] != root:
            parent[one], one = root, parent[one]
        return root

    for maker, channels in coupled.channels.items():
        for c in range(channels):
            find((maker, c))
    here: dict[tuple[str, int], Channel] = {}
    for maker, arrivals in coupled.arrivals.items():
        for place, at in arrivals.items():
            if place == LOGITS:
                continue
            for position, channel in enumerate(at.tolist()):
                if channel >= 0:
                    first = here.setdefault((place, position), (maker, channel))
                    parent[find((maker, channel))] = find(first)
    found: dict[Channel, list[Channel]] = defaultdict(list)
    for one in list(parent):
        found[find(one)].append(one)
    return [own for own in found.values() if not any(maker in fixed for maker, _ in own)]


def by_site(groups: list[list[Channel]]) -> dict[str, list[list[Channel]]]:
    """Groups that share a maker, together under the name of its first one."""
    first: dict[str, str] = {}

    def site_of(maker: str) -> str:
        while first.setdefault(maker, maker) != maker:
            maker = first[maker]
        return maker

    for own in groups:
        for maker, _ in own[1:]:
            first[site_of(maker)] = site_of(own[0][0])
    sites: dict[str, list[list[Channel]]] = defaultdict(list)
    for own in groups:
        sites[site_of(own[0][0])].append(own)
    return dict(sites)


def reads_itself(groups: list[list[Channel]], coupled: Couplings) -> bool:
    """Whether a layer of the site makes channels and reads them: its weights would be of
    two cells.
    """
    makers = {maker for own in groups for maker, _ in own}
    return any(place in makers for maker in makers for place in coupled.arrivals[maker])


def cells_of(
    groups: list[list[Channel]], coupled: Couplings, modules: dict[str, nn.Module]
) -> Cells:
    """Labels of everything that belongs to the channels of one site."""
    cell = {one: number for number, own in enumerate(groups) for one in own}
    makers = list(dict.fromkeys(maker for own in groups for maker, _ in own))
    labels: Tensors = {}
    for maker in makers:
        rows = torch.tensor([cell.get((maker, c), -1) for c in range(coupled.channels[maker])])
        label_rows(labels, maker, modules[maker], rows)
        for place, at in coupled.arrivals[maker].items():
            entering = torch.where(at >= 0, rows[at.clamp_min(0)], -1)
            label_place(labels, place, modules[place], entering)
    return Cells((len(groups),), {name: spread(own, name, modules) for name, own in labels.items()})


def spread(labels: Tensor, name: str, modules: dict[str, nn.Module]) -> Tensor:
    """Labels of a parameter, int32; those of a reader's columns for all of its rows.

    The rows share their memory.
    """
    if labels.ndim == 1:
        return labels.int()
    return labels.int().expand(len(modules[name.rpartition(".")[0]].weight), -1)


def label_rows(labels: Tensors, name: str, module: nn.Module, rows: Tensor) -> None:
    """Label what a module holds for every channel that it gives: weights, biases, statistics."""
    for kind in ("weight", "bias", "running_mean", "running_var"):
        held = getattr(module, kind, None)
        if isinstance(held, Tensor) and held.ndim and len(held) == len(rows):
            merge(labels, f"{name}.{kind}", rows)


def label_place(labels: Tensors, name: str, module: nn.Module, entering: Tensor) -> None:
    """Label what a module holds for every channel that enters it: columns of a reader, entries of a
    norm.
    """
    if depthwise(module):
        times = module.out_channels // len(entering)
        label_rows(labels, name, module, entering.repeat_interleave(times))
    elif isinstance(module, CONVOLUTIONS | nn.Linear):
        merge(labels, f"{name}.weight", entering[None])
    else:
        label_rows(labels, name, module, entering)


def merge(labels: Tensors, name: str, found: Tensor) -> None:
    """Add labels to those that other makers have brought; −1 is none."""
    former = labels.get(name)
    labels[name] = found.clone() if former is None else torch.where(found >= 0, found, former)
