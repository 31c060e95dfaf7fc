"""Training of some modules of a network alone; all others stay as they are, in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.network.layers import frozen, inference
from mint_cli.network.observe import Stop
from mint_cli.protocol import Images
from mint_cli.store import Context
from mint_cli.training.loop import Views, fit
from mint_cli.training.recipe import Recipe

KEPT = 2**31  # bytes kept of what enters the end of a network: a fixed number, because batches of
BATCH = 100  # another size round differently, and results should not depend on a machine's memory


class Alone(nn.Module):
    """The end of a network, of which some modules alone go into training mode."""

    def __init__(self, end: nn.Module, trained: list[nn.Module]) -> None:
        super().__init__()
        self.end, self._trained = end, tuple(trained)

    def train(self, mode: bool = True) -> Alone:
        super().train(False)
        for module in self._trained:
            module.train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x)


def fit_alone(
    model: nn.Module,
    names: list[str],
    images: Images,
    recipe: Recipe,
    seed: list[int],
    context: Context,
) -> list[float]:
    """``fit`` for the named modules, in place; nothing else of the network changes.

    What comes before the smallest module that holds them and gives the network's output needs no
    gradients; where images are not drawn anew every epoch, it runs once.
    """
    model = model.to(context.device, memory_format=torch.channels_last).eval()
    images = im.to(images, context.device)
    end = ending(model, names, im.plain(images, torch.arange(2)))
    trained = [model.get_submodule(name) for name in names]
    views = im.views if end is model else entering(model, end, images, recipe)
    with frozen(model):
        for module in trained:
            module.requires_grad_(True)
        return fit(Alone(end, trained), images, recipe, seed, context, views=views)


def ending(model: nn.Module, names: list[str], x: Tensor) -> nn.Module:
    """The smallest module that holds the named ones and maps one tensor to the network's output."""
    above = common(names)
    modules = [model.get_submodule(".".join(above[:n])) for n in range(len(above), 0, -1)]
    calls: dict[nn.Module, list] = {module: [] for module in modules}
    handles = [
        m.register_forward_hook(lambda m, args, out: calls[m].append((args, out))) for m in modules
    ]
    try:
        with inference(model):
            logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    for module in modules:
        if len(calls[module]) == 1:
            args, out = calls[module][0]
            if out is logits and len(args) == 1 and isinstance(args[0], Tensor):
                return module
    return model


def common(names: list[str]) -> list[str]:
    """What dotted names begin with together, part by part; all of a name that is alone."""
    parts = zip(*(name.split(".") for name in names), strict=False)
    found = []
    for own in parts:
        if len(set(own)) > 1:
            break
        found.append(own[0])
    return found


def entering(model: nn.Module, end: nn.Module, images: Images, recipe: Recipe) -> Views:
    """What enters the end of a network for one batch of images after another.

    Computed once and kept where it is the same in every epoch and not too large.
    """

    def reached(views: Iterator[Tensor]) -> Iterator[Tensor]:
        return (before(model, end, x, recipe) for x in views)

    def anew(images: Images, indices: list[Tensor], draws: im.Draws) -> Iterator[Tensor]:
        return reached(im.views(images, indices, draws))

    every = torch.arange(len(images)).split(BATCH)
    first = next(reached(im.plains(images, every[:1])))
    if images.padding or images.flip or first[0].nbytes * len(images) > KEPT:
        return anew
    kept = torch.cat(list(reached(im.plains(images, every))))
    return lambda images, indices, draws: (kept[index] for index in indices)


def before(model: nn.Module, end: nn.Module, x: Tensor, recipe: Recipe) -> Tensor:
    """What enters ``end`` when ``x`` enters the network, in the precision of the recipe."""
    seen: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])
        raise Stop

    handle = end.register_forward_pre_hook(stop)
    low = recipe.precision == "bfloat16"
    try:
        with torch.no_grad(), suppress(Stop), torch.autocast(x.device.type, torch.bfloat16, low):
            model(x)
    finally:
        handle.remove()
    return seen[0]
