"""The layers of a network: what they are, what can be pruned, how masks are laid on their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mint_cli.errors import SettingError
from mint_cli.protocol import Layer, Masks

CONVOLUTIONS = nn.modules.conv._ConvNd
IMAGES = 3  # of the recorded pass: rows of a layer are told from images by their number


def weighted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every two-dimensional convolution and linear layer by name, in order of definition."""
    found = ((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return dict(found)


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Every batch norm that keeps statistics by name, in order of definition."""
    kind = nn.modules.batchnorm._BatchNorm
    found = ((name, m) for name, m in model.named_modules() if isinstance(m, kind))
    return {name: m for name, m in found if m.track_running_stats}


def weight_counts(model: nn.Module) -> dict[str, int]:
    """Weights (no biases) by parameter: of convolutions and linear layers of every kind, and other matrices.

    Other matrices are parameters of two or more axes longer than 1, as an attention's projections;
    a parameter that several layers share counts once.
    """
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}

    def is_weight(name: str, p: Tensor) -> bool:
        plain = isinstance(owners[id(p)], CONVOLUTIONS | nn.Linear) and name.endswith("weight")
        return plain or sum(axis > 1 for axis in p.shape) >= 2

    return {name: p.numel() for name, p in model.named_parameters() if is_weight(name, p)}


def record(model: nn.Module, pixels: tuple[int, ...]) -> dict[str, Layer]:
    """What one pass over black images of shape ``pixels`` shows of every convolution and linear layer."""
    modules = weighted_layers(model)
    calls, outputs, rows = Counter(), {}, {}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        calls[name] += 1
        rows[name] = len(entering)
        outputs[name] = leaving.shape

    with inference(model), hooked(model, list(modules), see):
        model(torch.zeros(IMAGES, *pixels, device=device_of(model)))
    sharing = shared_weights(model)
    return {
        name: Layer(
            name,
            type(m).__name__,
            tuple(m.weight.shape),
            positions(m, outputs[name]) if name in outputs else 0,
            calls[name],
            tuple(refusals(m, calls[name], sharing.get(name))),
            tuple(blindness(m, calls[name], rows.get(name, IMAGES))),
        )
        for name, m in modules.items()
    }


def positions(module: nn.Module, shape: torch.Size) -> int:
    """Positions of an output of that shape: a feature map's pixels, a linear layer's tokens."""
    axes = shape[1:-1] if isinstance(module, nn.Linear) else shape[2:]
    return axes.numel()


def shared_weights(model: nn.Module) -> dict[str, str]:
    """Layers whose weight is also another module's, and that module."""
    owners: dict[int, list[str]] = {}
    for name, m in model.named_modules():
        for p in m.parameters(recurse=False):
            owners.setdefault(id(p), []).append(name)
    found = {}
    for name, m in weighted_layers(model).items():
        others = [one for one in owners.get(id(m._parameters.get("weight")), ()) if one != name]
        if others:
            found[name] = others[0]
    return found


def refusals(module: nn.Module, calls: int, sharing: str | None) -> Iterator[str]:
    """Why a layer's weight cannot be masked."""
    if is_parametrized(module) or module._parameters.get("weight") is None:
        yield "its weight is computed from other parameters (weight norm or the like)"
    if sharing is not None:
        yield f"it shares its weight with {sharing}"
    if not calls:
        yield "the forward pass never calls it"


def blindness(module: nn.Module, calls: int, rows: int) -> Iterator[str]:
    """Why a layer cannot be judged or solved by what enters and leaves it."""
    if getattr(module, "groups", 1) > 1:
        yield f"it is a grouped convolution (groups={module.groups})"
    if calls > 1:
        yield f"one forward pass calls it {calls} times"
    if rows != IMAGES:
        yield "the rows that enter it are not images"


def prunable_layers(layers: dict[str, Layer], skip: list[str]) -> dict[str, Layer]:
    """The layers that may be pruned; ``skip`` names those to leave alone, ``*`` stands for anything.

    Raises SettingError for a name that is none, and for layers that cannot be masked.
    """
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SettingError("skip", f"must name layers of the network ({', '.join(layers)})", pattern)
    left = {n: x for n, x in layers.items() if not any(fnmatchcase(n, pattern) for pattern in skip)}
    refuse("skip", {name: layer.refusals for name, layer in left.items()}, "cannot be pruned")
    if not left:
        raise SettingError("skip", "leaves no layer to prune")
    return left


def refuse(setting: str, why: dict[str, tuple[str, ...]], what: str) -> None:
    """SettingError that names the layers with a reason not to be handled, the first one's reason, and the way out."""
    bad = [name for name, reasons in why.items() if reasons]
    if bad:
        reason = f"layer {bad[0]} {what}: {why[bad[0]][0]}"
        raise SettingError(setting, f"must leave alone {', '.join(bad)} (pruner.skip)", hint=reason)


def normalise_inputs(model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    """Make the network take pixels in [0, 1]; mean and std become its buffers, so they travel with its weights."""
    model.register_buffer("input_mean", torch.tensor(mean).view(1, -1, 1, 1))
    model.register_buffer("input_std", torch.tensor(std).view(1, -1, 1, 1))
    model.register_forward_pre_hook(lambda m, args: ((args[0] - m.input_mean) / m.input_std,))
    return model


def device_of(model: nn.Module) -> torch.device:
    """The device that the network's weights are on."""
    return next(model.parameters()).device


def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set what the masks remove of the parameters they name to exactly 0.0."""
    with torch.no_grad():
        for name, mask in masks.items():
            p = model.get_parameter(name)
            p.copy_(torch.where(spread(mask, p.ndim).to(p.device), p, 0.0))


def spread(mask: Tensor, ndim: int) -> Tensor:
    """View a mask of leading axes so that it broadcasts against a parameter of ``ndim`` axes."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode comes back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def hooked(model: nn.Module, layers: list[str], hook) -> Iterator[None]:
    """Call ``hook(name, input, output)`` after every pass of each of ``layers``; a result replaces the output.

    What the hook is given may be changed in place by whatever comes next: it keeps copies or nothing.
    """
    modules = weighted_layers(model)

    def after(name: str):
        return lambda m, args, settings, output: hook(name, args[0] if args else settings["input"], output)

    handles = [modules[name].register_forward_hook(after(name), with_kwargs=True) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hooked_before(model: nn.Module, layers: list[str], hook) -> Iterator[None]:
    """Call ``hook(name)`` before every forward pass of each of ``layers``."""
    modules = weighted_layers(model)
    handles = [
        modules[name].register_forward_pre_hook(lambda m, args, name=name: hook(name)) for name in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
