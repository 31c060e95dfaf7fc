"""Channels of a masked network that carry nothing, and constants moved to where they are read."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy

import torch
from torch import Tensor, nn

from mint_cli.network.cells import masks_of, readers
from mint_cli.network.couplings import is_maker
from mint_cli.network.layers import apply_masks, inference
from mint_cli.network.observe import outputs_of
from mint_cli.protocol import Cells, Kept


def settled(
    model: nn.Module, cells: dict[str, Cells], x: Tensor, empty: Collection[str] = ()
) -> tuple[nn.Module, Kept]:
    """A network of the same function, and which channels of it still carry something.

    ``cells`` are all channels (granularity ``filters``, residual).  A channel carries nothing if no
    weight that reads it is left; or if none that makes it is, and the constant that it then is can
    be moved into the biases of its readers exactly: it is 0, or they read it without padding.  What
    only such channels were made of carries nothing in its turn.  ``x`` are images (n, c, h, w), on
    which the constants are seen.  Layers keep a channel at least, but for those that may become
    ``empty``.
    """
    model = deepcopy(model)
    kept = {site: torch.ones(own.shape, dtype=torch.bool) for site, own in cells.items()}
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    while True:
        still = {s: ~idle(model, modules, own, kept[s], x, empty) for s, own in cells.items()}
        found = {site: kept[site] & own for site, own in still.items()}
        if all(torch.equal(found[site], kept[site]) for site in cells):
            return model, kept
        kept = found
        masks = {n: mask for n, mask in masks_of(cells, kept).items() if n in parameters}
        apply_masks(model, masks)


def idle(
    model: nn.Module,
    modules: dict[str, nn.Module],
    cells: Cells,
    kept: Tensor,
    x: Tensor,
    empty: Collection[str],
) -> Tensor:
    """Channels of one site that carry nothing, bool, of those still ``kept``.

    Their constants are moved into the network's biases.  Every layer that makes channels keeps one,
    unless it may become ``empty``.
    """
    reads, makes = sides(cells, modules)
    unread = ~touched(cells.shape, {n: (at, used(modules[n], 1)) for n, at in reads.items()})
    unmade = ~touched(cells.shape, {n: (at, used(modules[n], 0)) for n, at in makes.items()})
    movable = unmade & ~unread
    if movable.any():
        seen = constants(model, list(reads), x)
        for name, at in reads.items():
            value, level = seen[name]
            fixed = ~(level & ((value == 0) | takes(modules[name])))
            movable[at[fixed & (at >= 0)]] = False
    spared = last(kept, unread | movable, {n: at for n, at in makes.items() if n not in empty})
    movable &= ~spared
    if movable.any():
        for name, at in reads.items():
            moved = torch.cat([movable, torch.zeros(1, dtype=torch.bool)])[at] & (
                seen[name][0] != 0
            )
            if moved.any():
                move(modules[name], moved, seen[name][0])
    return (unread | movable) & ~spared


def last(kept: Tensor, going: Tensor, makes: dict[str, Tensor]) -> Tensor:
    """Channels, bool, that stay because a layer that makes them would have none left."""
    spared = torch.zeros_like(kept)
    for at in makes.values():
        own = at[at >= 0]
        if len(own) == len(at) and not (kept & ~going | spared)[own].any():
            spared[own[kept[own]][:1]] = True
    return spared


def sides(
    cells: Cells, modules: dict[str, nn.Module]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Layers that read the cells, with the cell of every input; makers, with that of every
    output.
    """
    makes = {}
    for name, labels in cells.labels.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and labels.ndim == 1 and is_maker(modules[module]):
            makes[module] = labels.long()
    return readers(cells), makes


def used(module: nn.Module, axis: int) -> Tensor:
    """Outputs (axis 0) or inputs (axis 1) of a layer that have a weight other than 0.0, bool."""
    return (module.weight.detach() != 0).transpose(0, axis).flatten(1).any(1).cpu()


def touched(shape: tuple[int, ...], layers: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Cells with a channel that some layer uses, bool."""
    found = torch.zeros(shape, dtype=torch.bool)
    for at, use in layers.values():
        found[at[use & (at >= 0)]] = True
    return found


def takes(module: nn.Module) -> bool:
    """Whether a constant that a layer reads can be moved into its bias exactly."""
    if module.bias is None:
        return False
    return isinstance(module, nn.Linear) or not any(module._reversed_padding_repeated_twice)


def constants(model: nn.Module, names: list[str], x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Of every input channel of the named layers its value on ``x``, and whether it is the same
    everywhere.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str):
        def hook(module, args, settings):
            entering = outputs_of(module, args[0] if args else settings["input"])
            low, high = entering.amin((0, 2)), entering.amax((0, 2))
            seen[name] = (low.cpu(), (low == high).cpu())

        return hook

    modules = {name: model.get_submodule(name) for name in names}
    handles = [
        m.register_forward_pre_hook(note(name), with_kwargs=True) for name, m in modules.items()
    ]
    try:
        with inference(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def move(module: nn.Module, moved: Tensor, value: Tensor) -> None:
    """Add what a layer gives for the constant inputs ``moved`` to its bias."""
    with torch.no_grad():
        per_input = module.weight.flatten(2).sum(2) if module.weight.ndim > 2 else module.weight
        at = moved.to(per_input.device)
        module.bias += per_input[:, at] @ value.to(per_input)[at]
