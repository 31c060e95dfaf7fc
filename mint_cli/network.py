"""Prunable layers, activations and masks: the only module that knows the inside of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mint_cli import images as im
from mint_cli.protocol import Images, Masks, SettingError, Shapes, Tensors


def weighted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every convolution and linear layer by name, in order of definition."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Every batch norm that keeps statistics by name, in order of definition."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats}


def weight_counts(model: nn.Module) -> dict[str, int]:
    """Weights (no biases) of every convolution and linear layer."""
    return {name: m.weight.numel() for name, m in weighted_layers(model).items()}


def prunable_layers(model: nn.Module, skip: list[str]) -> list[str]:
    """Names of the layers that may be pruned; ``skip`` names layers to leave alone."""
    names = list(weighted_layers(model))
    unknown = [name for name in skip if name not in names]
    if unknown:
        raise SettingError(f"pruner.skip must name layers of the network ({', '.join(names)}), not {unknown[0]}")
    return [name for name in names if name not in skip]


def layer_shapes(model: nn.Module, layers: list[str], pixels: tuple[int, ...]) -> Shapes:
    """Output channels, input channels, size of the kernel and positions of the output of each layer, for images of shape ``pixels``."""
    modules, shapes = weighted_layers(model), {}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        weight = modules[name].weight
        shapes[name] = (*weight.shape[:2], weight[0, 0].numel(), leaving[0, 0].numel())

    with inference(model), hooked(model, layers, see):
        model(torch.zeros(1, *pixels))
    return {name: shapes[name] for name in layers}


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
    """Set the weights outside the masks to exactly 0.0."""
    modules = weighted_layers(model)
    with torch.no_grad():
        for name, mask in masks.items():
            weight = modules[name].weight
            weight.copy_(torch.where(spread(mask, weight.ndim).to(weight.device), weight, 0.0))


def spread(mask: Tensor, ndim: int) -> Tensor:
    """View a mask of leading axes so that it broadcasts against a weight of ``ndim`` axes."""
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
    """Call ``hook(name, input, output)`` after every forward pass of each of ``layers``; its result, unless None, replaces the output."""
    modules = weighted_layers(model)
    handles = [modules[name].register_forward_hook(lambda m, args, output, name=name: hook(name, args[0], output)) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hooked_before(model: nn.Module, layers: list[str], hook) -> Iterator[None]:
    """Call ``hook(name)`` before every forward pass of each of ``layers``; its result, unless None, replaces the input."""
    modules = weighted_layers(model)
    handles = [modules[name].register_forward_pre_hook(lambda m, args, name=name: hook(name)) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def channel_means(activation: Tensor) -> Tensor:
    """One number per channel and image: the mean over space, (n, channels)."""
    return activation.flatten(2).mean(2) if activation.ndim > 2 else activation


def activations(
    model: nn.Module, layers: list[str], images: Images, index: Tensor, batch_size: int = 500
) -> dict[str, tuple[Tensor, Tensor]]:
    """Each layer's own input (parents) and output (children) channels, averaged over space: float32 (n, channels) on its device.

    Row i of both is the same image, ``index[i]``, without the training transform.  A layer's input is taken where it
    enters: after normalisation, activation, pooling, addition or concatenation.
    """
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def record(name: str, entering: Tensor, leaving: Tensor) -> None:
        parts[name].append((channel_means(entering).float(), channel_means(leaving).float()))

    with inference(model), hooked(model, layers, record):
        for chunk in index.split(batch_size):
            model(im.plain(images, chunk).to(device_of(model)))
    return {name: tuple(torch.cat(side) for side in zip(*chunks, strict=True)) for name, chunks in parts.items()}


def reestimate_batch_norm(model: nn.Module, images: Images, count: int, rng: np.random.Generator, batch_size: int = 500) -> None:
    """Set the statistics of every batch norm to their average over ``count`` images after the training transform.

    Any other transform biases them, and costs even a dense network accuracy.  Batches are as equal as can be, because each
    counts the same.
    """
    norms = list(batch_norms(model).values())
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative average
        m.train()
    index = torch.from_numpy(rng.permutation(len(images))[:count])
    with torch.no_grad():
        for chunk in index.tensor_split(-(-len(index) // batch_size)):
            model(im.augmented(images, chunk, rng).to(device_of(model)))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.eval()


def settle_constant_channels(model: nn.Module) -> None:
    """Give a variance of 1 to channels of batch norms that vary less than bfloat16 resolves at their mean.

    To a training in bfloat16 these were constants (no live inputs), which the norm maps to its bias.  Left at about 0, the
    variance would make the rounding of that constant up to 1/√eps = 316 times as large wherever the network runs in float32.
    """
    for m in batch_norms(model).values():
        m.running_var[m.running_var.sqrt() < torch.finfo(torch.bfloat16).eps / 2 * m.running_mean.abs()] = 1.0


def patches(
    model: nn.Module, layers: list[str], images: Images, index: Tensor, rng: np.random.Generator, batch_size: int = 500
) -> dict[str, tuple[Tensor, Tensor]]:
    """One random output position an image: the input patch that makes it (n, in × kernel) and the output there (n, out)."""
    modules = weighted_layers(model)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def record(name: str, entering: Tensor, leaving: Tensor) -> None:
        module = modules[name]
        if leaving.ndim > 2:
            unfolded = nn.functional.unfold(entering, module.kernel_size, module.dilation, module.padding, module.stride)
            at = torch.from_numpy(rng.integers(0, unfolded.shape[2], len(leaving))).to(leaving.device)
            rows = torch.arange(len(leaving), device=leaving.device)
            entering, leaving = unfolded[rows, :, at], leaving.flatten(2)[rows, :, at]
        parts[name].append((entering.float(), leaving.float()))

    with inference(model), hooked(model, layers, record):
        for chunk in index.split(batch_size):
            model(im.plain(images, chunk).to(device_of(model)))
    return {name: tuple(torch.cat(side) for side in zip(*chunks, strict=True)) for name, chunks in parts.items()}


class Stop(Exception):
    """Ends a forward pass early: all that was looked for has been seen."""


class Passage(TorchFunctionMode):
    """One layer in one forward pass: what entered it, what left it, and the first use of that.

    ``norm`` names the batch norm that took the output, if one did; ``added`` is what the output (after that batch norm)
    was added to, if that was its first use: the shortcut of a residual block.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._norms = {id(m.running_mean): name for name, m in batch_norms(model).items()}
        self.entering = self.leaving = self.norm = self.added = self._followed = None

    def leave(self, entering: Tensor, leaving: Tensor) -> None:
        """Note the layer's input and output, and follow the output from here on."""
        self.entering, self.leaving, self._followed = entering, leaving, leaving

    def __torch_function__(self, function, types, arguments=(), settings=None):
        result = function(*arguments, **(settings or {}))
        if not isinstance(result, Tensor) or self._followed is None or all(a is not self._followed for a in arguments):
            return result
        name = function.__name__.strip("_")
        if name == "batch_norm":
            self.norm, self._followed = self._norms.get(id(arguments[1])), result
            return result
        if name in ("add", "radd", "iadd"):
            self.added = next((a for a in arguments if a is not self._followed), None)
        raise Stop


def norm_scale(model: nn.Module, norm: str | None) -> Tensor | float:
    """Factor of every channel in the batch norm of that name, (channels,); 1.0 if there is none."""
    if norm is None:
        return 1.0
    m = model.get_submodule(norm)
    return m.weight / (m.running_var + m.eps).sqrt()


def passage(model: nn.Module, layer: str, x: Tensor, resumed: AbstractContextManager | None = None) -> Passage:
    """Run images ``x`` (n, c, h, w) as far as the first use of the layer's output: additions are found, not named.

    ``resumed`` (a ``Replay``) leaves out what an earlier pass over the same images has computed.
    """
    seen = Passage(model)
    noted = hooked(model, [layer], lambda name, entering, leaving: seen.leave(entering, leaving))
    with noted, suppress(Stop), seen, resumed or nullcontext():
        model(x)
    return seen


def jacobians(model: nn.Module, layers: list[str], x: Tensor, generator: torch.Generator) -> Tensors:
    """How the logits feel each layer's output: ∂ v·logits / ∂ output for one random projection v an image, (n, out, positions).

    v is normal, minus its mean: what moves all logits together changes no decision.  Labels play no part: on a network that
    fits its training images the gradient of the loss is nearly zero.
    """
    outputs: Tensors = {}

    def follow(name: str, entering: Tensor, leaving: Tensor) -> Tensor:
        outputs[name] = leaving if leaving.requires_grad else leaving.detach().requires_grad_()
        return outputs[name]

    with hooked(model, layers, follow), torch.enable_grad():
        logits = model(x)
    v = torch.randn(logits.shape, generator=generator).to(logits)
    value = (logits * (v - v.mean(1, keepdim=True))).sum()
    gradients = torch.autograd.grad(value, list(outputs.values()))
    return {name: gradient.reshape(*gradient.shape[:2], -1) for name, gradient in zip(outputs, gradients, strict=True)}
