"""The layers of a network: what they are, what can be pruned, how masks are laid on their
weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mint_cli.errors import DataError, SettingError
from mint_cli.protocol import Layer, Masks

CONVOLUTIONS = nn.modules.conv._ConvNd
IMAGES = (2, 3)  # of the recorded passes: rows that are images number as many in each


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
    """Weights (no biases) by parameter: of convolutions and linear layers of every kind, and other
    matrices.

    Other matrices are parameters of two or more axes longer than 1, as an attention's projections;
    a parameter that several layers share counts once.
    """
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}

    def is_weight(name: str, p: Tensor) -> bool:
        plain = isinstance(owners[id(p)], CONVOLUTIONS | nn.Linear) and name.endswith("weight")
        return plain or sum(axis > 1 for axis in p.shape) >= 2

    return {name: p.numel() for name, p in model.named_parameters() if is_weight(name, p)}


def record(model: nn.Module, pixels: tuple[int, ...]) -> dict[str, Layer]:
    """What passes over black images of shape ``pixels`` show of every convolution and linear layer.

    In the order in which a pass first calls them; those that it never calls come last.
    """
    modules, sharing = weighted_layers(model), shared_weights(model)
    passes = {n: passed(model, torch.zeros(n, *pixels, device=device_of(model))) for n in IMAGES}
    seen = passes[IMAGES[-1]]
    layers = {}
    for name in (*seen, *(name for name in modules if name not in seen)):
        m, calls = modules[name], seen.get(name, [])
        aligned = all(
            entering[0] == n for n, one in passes.items() for entering, _ in one.get(name, [])
        )
        layers[name] = Layer(
            name,
            type(m).__name__,
            tuple(m.weight.shape),
            positions(m, calls[-1][1]) if calls else 0,
            len(calls),
            tuple(refusals(m, len(calls), sharing.get(name))),
            tuple(blindness(m, len(calls), aligned)),
        )
    return layers


def passed(model: nn.Module, images: Tensor) -> dict[str, list[tuple[torch.Size, torch.Size]]]:
    """Shapes of what enters and leaves each layer in one pass, call by call, layers in order of
    first calls.
    """
    seen: dict[str, list[tuple[torch.Size, torch.Size]]] = {}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        seen.setdefault(name, []).append((entering.shape, leaving.shape))

    with inference(model), hooked(model, list(weighted_layers(model)), see):
        model(images)
    return seen


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


def blindness(module: nn.Module, calls: int, aligned: bool) -> Iterator[str]:
    """Why a layer cannot be judged or solved by what enters and leaves it."""
    if getattr(module, "groups", 1) > 1:
        yield f"it is a grouped convolution (groups={module.groups})"
    if calls > 1:
        yield f"one forward pass calls it {calls} times"
    if not aligned:
        yield "the rows that enter it are not images"


def prunable_layers(layers: dict[str, Layer], skip: list[str]) -> dict[str, Layer]:
    """The layers that may be pruned; ``skip`` names those to leave alone, ``*`` stands for
    anything.

    Raises SettingError for a name that is none, and for layers that cannot be masked.
    """
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SettingError(
                "skip", f"must name layers of the network ({', '.join(layers)})", pattern
            )
    left = {n: x for n, x in layers.items() if not any(fnmatchcase(n, pattern) for pattern in skip)}
    refuse("skip", {name: layer.refusals for name, layer in left.items()}, "cannot be pruned")
    if not left:
        raise SettingError("skip", "leaves no layer to prune")
    return left


def refuse(setting: str, why: dict[str, tuple[str, ...]], what: str) -> None:
    """SettingError that names the layers with a reason not to be handled, the first one's reason,
    and the way out.
    """
    bad = [name for name, reasons in why.items() if reasons]
    if bad:
        reason = f"layer {bad[0]} {what}: {why[bad[0]][0]}"
        raise SettingError(setting, f"must leave alone {', '.join(bad)}", hint=reason)


def normalise_inputs(
    model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
) -> nn.Module:
    """Make the network take pixels in [0, 1]; mean and std become its buffers, so they travel with
    its weights.
    """
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
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient, so that a layer's input may change once it has been read."""
    wanting = [p for p in model.parameters() if p.requires_grad]
    for p in wanting:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanting:
            p.requires_grad_(True)


@contextmanager
def differentiable(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within it all of ``parameters`` want gradients, frozen ones too."""
    still = [p for p in parameters if not p.requires_grad]
    for p in still:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p in still:
            p.requires_grad_(False)


@contextmanager
def own_inputs(model: nn.Module) -> Iterator[None]:
    """Every convolution and linear layer reads a copy of its input, which nothing changes later."""

    def copy(module: nn.Module, arguments: tuple) -> tuple:
        return tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)

    handles = [m.register_forward_pre_hook(copy) for m in weighted_layers(model).values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def differentiated() -> Iterator[None]:
    """DataError where the network changes in place what its gradients are made of."""
    try:
        yield
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise DataError(
            "the network has no gradients: it changes in place what they are made of, such as the "
            "result of an activation that a sum is written into"
        ) from error


@contextmanager
def hooked(model: nn.Module, layers: list[str], hook) -> Iterator[None]:
    """Call ``hook(name, input, output)`` after every pass of each of ``layers``; a result replaces
    the output.

    What the hook is given may be changed in place by whatever comes next: it keeps copies or
    nothing.
    """
    modules = weighted_layers(model)

    def after(name: str):
        return lambda m, args, settings, output: hook(
            name, args[0] if args else settings["input"], output
        )

    handles = [
        modules[name].register_forward_hook(after(name), with_kwargs=True) for name in layers
    ]
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
        modules[name].register_forward_pre_hook(lambda m, args, name=name: hook(name))
        for name in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
