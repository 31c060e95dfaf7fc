"""Which channels of a network hang together: found by where a NaN in one arrives, not by names.

Every layer that makes channels is cut: whatever enters it, it gives zeros.  A NaN in one channel that
it makes then travels through activations, norms, pooling, additions, products, concatenations,
flattening and depthwise convolutions, channel by channel, up to the layers that read it.  Channels
that arrive at the same place are one cell.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mint_cli.errors import first_line
from mint_cli.network.layers import CONVOLUTIONS, device_of, inference

IMAGE = ""  # the images, as a maker
LOGITS = "logits"  # the network's output, as a place
CHANNELWISE = (nn.modules.batchnorm._BatchNorm, nn.PReLU, nn.modules.instancenorm._InstanceNorm)


def depthwise(module: nn.Module) -> bool:
    """Whether every output channel of a convolution is made of one input channel."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def is_maker(module: nn.Module) -> bool:
    """Whether a layer makes channels of all that enters it: it is cut."""
    return isinstance(module, CONVOLUTIONS | nn.Linear) and not depthwise(module)


def is_place(module: nn.Module) -> bool:
    """Whether a module has a parameter or statistic for every channel that enters it."""
    return isinstance(module, (CONVOLUTIONS, nn.Linear, *CHANNELWISE))


def channels_of(module: nn.Module | None, x: Tensor) -> Tensor:
    """Whether a channel has a NaN anywhere, bool (images, channels).

    A linear layer's channels come last, others second.
    """
    bad = x.isnan()
    bad = bad.movedim(-1, 1) if isinstance(module, nn.Linear) else bad
    return bad.flatten(2).any(2) if bad.ndim > 2 else bad


@dataclass
class Arrivals(TorchFunctionMode):
    """What one probe of one maker showed: NaNs at every place, and in which additions."""

    places: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    sums: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # call -> sides
    _call: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, function, types, arguments=(), settings=None):
        if getattr(function, "__name__", "").strip("_") in ("add", "radd", "iadd"):
            self._call += 1
            for side, x in enumerate(arguments[:2]):
                if isinstance(x, Tensor) and x.is_floating_point() and bool(x.isnan().any()):
                    self.sums[self._call].add(side)
        return function(*arguments, **(settings or {}))


def codes(channels: int) -> Tensor:
    """Which channels are NaN in which probe image, bool (2 · bits, channels).

    The bits of their numbers, and the inverse.
    """
    bits = max(1, math.ceil(math.log2(channels)))
    ones = (torch.arange(channels)[None, :] >> torch.arange(bits)[:, None]) & 1
    return torch.cat([ones == 1, ones == 0])


def decoded(seen: Tensor) -> tuple[Tensor, bool]:
    """The channel that arrived at each of a place, int64 (−1 none), and whether several did at one."""
    ones, inverse = seen.chunk(2)
    reached = seen.any(0)
    mixed = bool((ones & inverse).any())
    number = (ones.long() << torch.arange(len(ones))[:, None]).sum(0)
    return torch.where(reached, number, -1), mixed


@contextmanager
def probed(
    model: nn.Module, shapes: dict[str, torch.Size], maker: str, arrivals: Arrivals
) -> Iterator[None]:
    """Every maker gives zeros, ``maker`` NaNs by its code; NaNs are noted wherever they arrive."""
    with ExitStack() as stack:
        for name, m in model.named_modules():
            if is_place(m):
                stack.enter_context(noting(m, name, arrivals))
            if name in shapes:
                stack.enter_context(cut(m, shapes[name], name == maker))
        yield


@contextmanager
def noting(module: nn.Module, name: str, arrivals: Arrivals) -> Iterator[None]:
    """Note which channels of what enters a module have NaNs."""

    def note(m, args, settings):
        with torch._C.DisableTorchFunction():
            x = args[0] if args else settings["input"]
            arrivals.places[name].append(channels_of(m, x))

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def cut(module: nn.Module, shape: torch.Size, marked: bool) -> Iterator[None]:
    """Let a layer give zeros, or with ``marked`` NaNs by its code, instead of what it computes.

    ``shape`` is that of its output for one image: the first axis holds the rows that one image makes.
    """

    def instead(x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            last = isinstance(module, nn.Linear)
            code = codes(shape[-1 if last else 1]).to(x.device)
            rows = x.shape[0] if shape[0] == 1 else len(code) * shape[0]
            fresh = torch.zeros(rows, *shape[1:], device=x.device)
            if marked:
                view = [len(code)] + [1] * (fresh.ndim - 1)
                view[-1 if last else 1] = code.shape[1]
                fresh.masked_fill_(code.view(view), torch.nan)
            return fresh

    module.forward = instead  # an attribute of the object hides the method of its class
    try:
        yield
    finally:
        del module.forward


def output_shapes(model: nn.Module, pixels: tuple[int, ...]) -> dict[str, torch.Size]:
    """Shape of what every maker gives for one image; makers that are never called are left out."""
    shapes, handles = {}, []
    for name, m in model.named_modules():
        if is_maker(m):

            def note(m, args, output, name: str = name) -> None:
                shapes[name] = output.shape

            handles.append(m.register_forward_hook(note))
    try:
        with inference(model):
            model(torch.zeros(1, *pixels, device=device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


@dataclass(frozen=True)
class Couplings:
    """Where every maker's channels arrive, and what cannot be known of them.

    ``arrivals[maker][place]`` numbers, for every channel of the place, the maker's channel that arrives
    there, int64, −1 none.  ``fixed`` says in words why a maker's channels must all stay; ``added`` names
    makers whose channels are added to those of others: the residual stream.
    """

    arrivals: dict[str, dict[str, Tensor]]
    channels: dict[str, int]  # that every maker makes
    fixed: dict[str, str]
    added: frozenset[str]


def couplings(model: nn.Module, pixels: tuple[int, ...]) -> Couplings:
    """Probe every maker of a network, and the images, one after another."""
    modules, shapes = dict(model.named_modules()), output_shapes(model, pixels)
    makers = {name: channels_made(modules[name]) for name in shapes}
    arrivals, fixed, sums = {}, {}, {}
    for maker, channels in {IMAGE: pixels[0], **makers}.items():
        seen, mixed = probe(model, shapes, maker, channels, pixels)
        found, broken = {}, mixed
        for place, rows in seen.places.items():
            if len(rows) > 1 and any(r.any() for r in rows):
                broken = broken or f"{place} is called {len(rows)} times in one pass"
            found[place], several = decoded(torch.stack(rows).any(0))
            if several:
                broken = broken or f"its channels are mixed before {place}"
        arrivals[maker] = {place: at for place, at in found.items() if (at >= 0).any()}
        sums[maker] = seen.sums
        if broken:
            fixed[maker] = broken
        elif LOGITS in arrivals[maker]:
            fixed[maker] = "its channels are the network's outputs"
    fixed[IMAGE] = "they are the images"
    return Couplings(arrivals, {IMAGE: pixels[0], **makers}, fixed, added(sums))


def channels_made(module: nn.Module) -> int:
    """Output channels of a maker."""
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def probe(
    model: nn.Module,
    shapes: dict[str, torch.Size],
    maker: str,
    channels: int,
    pixels: tuple[int, ...],
) -> tuple[Arrivals, str]:
    """One pass with NaNs by code in what ``maker`` makes, and why it shows nothing, if so."""
    code, seen = codes(channels), Arrivals()
    x = torch.zeros(len(code), *pixels, device=device_of(model))
    if maker == IMAGE:
        x.masked_fill_(code[:, :, None, None].to(x.device), torch.nan)
    with inference(model), probed(model, shapes, maker, seen):
        try:
            with seen:
                logits = model(x)
        except (RuntimeError, ValueError, IndexError) as error:
            return seen, f"a network of NaNs cannot be run ({first_line(error)})"
    seen.places[LOGITS].append(channels_of(None, logits))
    return seen, ""


def added(sums: dict[str, dict[int, set[int]]]) -> frozenset[str]:
    """Makers that arrive at one side of an addition at whose other side another one does."""
    sides: dict[int, set[int]] = defaultdict(set)
    for calls in sums.values():
        for call, own in calls.items():
            sides[call] |= own
    both = {call for call, own in sides.items() if len(own) == 2}
    return frozenset(maker for maker, calls in sums.items() if both & calls.keys())


@dataclass(frozen=True)
class Recorded:
    """A network that a granularity may look at: its modules, and on demand its couplings."""

    model: nn.Module
    pixels: tuple[int, ...]

    @cached_property
    def couplings(self) -> Couplings:
        return couplings(self.model, self.pixels)
