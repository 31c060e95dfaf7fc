"""What enters and leaves the layers of a network, and how the logits feel it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from mint_cli.data import images as im
from mint_cli.errors import DataError
from mint_cli.network.layers import (
    batch_norms,
    device_of,
    differentiated,
    frozen,
    hooked,
    inference,
    own_inputs,
    weighted_layers,
)
from mint_cli.protocol import Images, Tensors


def outputs_of(module: nn.Module, leaving: Tensor) -> Tensor:
    """A layer's output as (n, channels, positions): a linear layer's channels come last, a
    convolution's second.
    """
    if isinstance(module, nn.Linear):
        leaving = leaving.movedim(-1, 1)
    return leaving.flatten(2) if leaving.ndim > 2 else leaving[:, :, None]


def patches_of(module: nn.Module, entering: Tensor) -> Tensor:
    """What each output position is made of, (n, in × kernel, positions), columns as in the flat
    weight.
    """
    if isinstance(module, nn.Linear):
        return outputs_of(module, entering)
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return F.unfold(
            entering, module.kernel_size, module.dilation, module.padding, module.stride
        )
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(entering, module._reversed_padding_repeated_twice, mode)
    return F.unfold(padded, module.kernel_size, module.dilation, 0, module.stride)


def channel_means(module: nn.Module, activation: Tensor) -> Tensor:
    """One number per channel and image, the mean over positions: float32 (n, channels), memory of
    its own.
    """
    return outputs_of(module, activation).float().mean(2)


Samples = dict[str, tuple[Tensor, Tensor]]


def activations(
    model: nn.Module, layers: list[str], images: Images, index: Tensor, batch_size: int = 500
) -> Samples:
    """Each layer's own input (parents) and output (children), averaged over positions: float32 (n,
    channels).

    Row i of both is the same image, ``index[i]``, without the training transform.  A layer's input
    is taken where it enters: after normalisation, activation, pooling, addition or concatenation.
    """
    modules = weighted_layers(model)

    def sample(name: str, entering: Tensor, leaving: Tensor) -> tuple[Tensor, Tensor]:
        return channel_means(modules[name], entering), channel_means(modules[name], leaving)

    return sampled(model, layers, images, index, batch_size, sample)


def patches(
    model: nn.Module,
    layers: list[str],
    images: Images,
    index: Tensor,
    rng: np.random.Generator,
    batch_size: int = 500,
) -> Samples:
    """One random output position an image: the input patch that makes it (n, in × kernel) and the
    output (n, out).
    """
    modules = weighted_layers(model)

    def sample(name: str, entering: Tensor, leaving: Tensor) -> tuple[Tensor, Tensor]:
        made, out = patches_of(modules[name], entering), outputs_of(modules[name], leaving)
        at = torch.from_numpy(rng.integers(0, out.shape[2], len(out))).to(out.device)
        rows = torch.arange(len(out), device=out.device)
        return made[rows, :, at].float(), out[rows, :, at].float()

    return sampled(model, layers, images, index, batch_size, sample)


def sampled(
    model: nn.Module, layers: list[str], images: Images, index: Tensor, batch_size: int, sample
) -> Samples:
    """Samples of all images of ``index``, (n, …) for either side of every layer."""
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def note(name: str, entering: Tensor, leaving: Tensor) -> None:
        parts[name].append(sample(name, entering, leaving))

    with inference(model), hooked(model, layers, note):
        for pixels in im.plains(images, index.split(batch_size)):
            model(pixels.to(device_of(model)))
    return {
        name: tuple(torch.cat(side) for side in zip(*chunks, strict=True))
        for name, chunks in parts.items()
    }


def reestimate_batch_norm(
    model: nn.Module, images: Images, count: int, rng: np.random.Generator, batch_size: int = 500
) -> None:
    """Set the statistics of every batch norm to their average over ``count`` images after the
    training transform.

    Any other transform biases them, and costs even a dense network accuracy.  Batches are as equal
    as can be, because each counts the same.
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
        for pixels in im.augmentations(
            images, index.tensor_split(-(-len(index) // batch_size)), rng
        ):
            model(pixels.to(device_of(model)))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.eval()


def settle_constant_channels(model: nn.Module) -> None:
    """Give a variance of 1 to channels that vary less than bfloat16 resolves at their mean.

    Of batch norms in training mode; the statistics of others have not been made by it.

    To a training in bfloat16 these were constants (no live inputs), which the norm maps to its
    bias. Left at about 0, the variance would make the rounding of that constant up to 1/√eps = 316
    times as large wherever the network runs in float32.
    """
    least = torch.finfo(torch.bfloat16).eps / 2
    for m in filter(lambda m: m.training, batch_norms(model).values()):
        m.running_var[m.running_var.sqrt() < least * m.running_mean.abs()] = 1.0


ADDITIONS = ("add", "radd", "iadd")  # functions that add, by name


class Stop(Exception):
    """Ends a forward pass early: all that was looked for has been seen."""


class Passage(TorchFunctionMode):
    """One layer in one forward pass: what entered it, what left it, and the first use of that.

    ``norm`` names the batch norm that took the output, if one did; ``added`` is what the output
    (after that batch norm) was added to, if that was its first use: the shortcut of a residual
    block.
    """

    def __init__(self, model: nn.Module, copied: bool = False) -> None:
        super().__init__()
        self._norms = {id(m.running_mean): name for name, m in batch_norms(model).items()}
        self._copied, self._version = copied, 0
        self.entering = self.leaving = self.norm = self.added = self._followed = None

    def leave(self, entering: Tensor, leaving: Tensor) -> Tensor:
        """Note the layer's input and output, and follow a copy of the output from here on.

        The copy is what goes on through the network, so that an activation that works in place
        changes the copy alone.
        """
        with torch._C.DisableTorchFunction():
            self.entering = entering.clone() if self._copied else entering
            self._version = self.entering._version
            self.leaving, self._followed = leaving, leaving.clone()
        return self._followed

    @property
    def overwritten(self) -> bool:
        """Whether the layer's input was changed in place after the layer had read it."""
        with torch._C.DisableTorchFunction():
            return self.entering is not None and self.entering._version != self._version

    def __torch_function__(self, function, types, arguments=(), settings=None):
        followed, settings = self._followed, settings or {}
        if followed is None or all(a is not followed for a in tree_leaves((arguments, settings))):
            return function(*arguments, **settings)
        name = function.__name__.strip("_")
        if (
            name in ADDITIONS and settings.get("alpha", 1) == 1
        ):  # not done: it may change the shortcut
            others = (a for a in arguments if a is not followed and isinstance(a, Tensor))
            self.added = next((a for a in others if a.shape == followed.shape), None)
            raise Stop
        result = function(*arguments, **settings)
        norm = self._norms.get(id(arguments[1])) if name == "batch_norm" and arguments[1:] else None
        if norm and not self.norm:
            self.norm, self._followed = norm, result
        elif any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            raise Stop
        return result


def norm_scale(model: nn.Module, norm: str | None) -> Tensor | float:
    """Factor of every channel in the batch norm of that name, (channels,); 1.0 if there is none."""
    if norm is None:
        return 1.0
    m = model.get_submodule(norm)
    scale = 1 / (m.running_var + m.eps).sqrt()
    return scale if m.weight is None else m.weight * scale


def passage(
    model: nn.Module, layer: str, x: Tensor, resumed: AbstractContextManager | None = None
) -> Passage:
    """Run images ``x`` (n, c, h, w) as far as the first use of the layer's output: additions are
    found, not named.

    ``resumed`` (a ``Replay``) leaves out what an earlier pass over the same images has computed.
    """
    for copied in (False, True):
        seen = Passage(model, copied)
        leave = seen.leave
        noted = hooked(model, [layer], lambda name, *activations, leave=leave: leave(*activations))
        with noted, suppress(Stop), seen, resumed or nullcontext():
            model(x)
        if not seen.overwritten:
            return seen
    return seen


def jacobians(
    model: nn.Module, layers: list[str], x: Tensor, generator: torch.Generator
) -> Tensors:
    """How the logits feel each layer's output: ∂ v·logits / ∂ output for one random projection v an
    image.

    (n, out, positions).  v is normal, minus its mean: what moves all logits together changes no
    decision.  Labels play no part: on a network that fits its training images the gradient of the
    loss is nearly zero.  Raises DataError for a network that overwrites what gradients are made of.
    """
    drawn = generator.get_state()
    try:
        return slopes(model, layers, x, generator)
    except DataError:  # a layer keeps its input for the gradient: where it may have changed, a copy
        generator.set_state(drawn)
        with own_inputs(model):
            return slopes(model, layers, x, generator)


def slopes(model: nn.Module, layers: list[str], x: Tensor, generator: torch.Generator) -> Tensors:
    """What ``jacobians`` gives, where no layer's input is changed in place."""
    modules, outputs = weighted_layers(model), {}

    def follow(name: str, entering: Tensor, leaving: Tensor) -> Tensor:
        outputs[name] = leaving if leaving.requires_grad else leaving.detach().requires_grad_()
        return outputs[
            name
        ].clone()  # an activation in place must not change what is differentiated for

    with frozen(model), hooked(model, layers, follow), torch.enable_grad(), differentiated():
        logits = model(x)
        v = torch.randn(logits.shape, generator=generator).to(logits)
        value = (logits * (v - v.mean(1, keepdim=True))).sum()
        gradients = torch.autograd.grad(value, list(outputs.values()), materialize_grads=True)
    return {name: outputs_of(modules[name], g) for name, g in zip(outputs, gradients, strict=True)}
