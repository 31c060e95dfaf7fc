"""Which channels of a network hang together: found by where a NaN in one arrives, not by names.

Every layer that makes channels, a maker, is cut: whatever enters it, it gives zeros.  A NaN in one
channel that it makes then travels through activations, norms, pooling, additions, products,
concatenations, flattening and depthwise convolutions, channel by channel, up to the layers that
read it.  Channels that arrive at the same place are one cell.

First an image for each maker shows how far its NaNs reach.  Then makers that nowhere reach the same
channel are marked in the same images, each of their channels by a code of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mint_cli.errors import first_line
from mint_cli.network.layers import CONVOLUTIONS, device_of, inference
from mint_cli.protocol import Tensors

IMAGE = ""  # the images, as a maker
LOGITS = "logits"  # the network's output, as a place
PASS = 16  # images in which makers are looked at one an image, bounded for the sake of memory
Side = tuple[int, int]  # the number of an addition in a pass, and one of its two terms
Marks = dict[str, Tensor]  # maker -> which channels are NaN in which image, bool
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
    """What a pass over so many images showed: NaNs at every place, and in which additions."""

    images: int
    places: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    sums: dict[Side, Tensor] = field(default_factory=dict)  # images with NaNs there, bool
    error: str = ""  # why the pass ended early
    _call: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, function, types, arguments=(), settings=None):
        if getattr(function, "__name__", "").strip("_") in ("add", "radd", "iadd"):
            self._call += 1
            for side, x in enumerate(arguments[:2]):
                if isinstance(x, Tensor) and x.is_floating_point():
                    self.sums[self._call, side] = by_image(x.isnan(), self.images)
        return function(*arguments, **(settings or {}))


def by_image(bad: Tensor, images: int) -> Tensor:
    """In which images something is bad; in all of them where rows are no images."""
    if bad.ndim and len(bad) % images == 0:
        return bad.reshape(images, -1).any(1)
    return bad.any().expand(images)


def codes(channels: int, bits: int | None = None) -> Tensor:
    """Which channels are NaN in which probe image, bool (2 · bits, channels).

    The bits of their numbers, and the inverse; as many bits as it takes unless told.
    """
    bits = bits or bits_for(channels)
    ones = (torch.arange(channels)[None, :] >> torch.arange(bits)[:, None]) & 1
    return torch.cat([ones == 1, ones == 0])


def bits_for(channels: int) -> int:
    """Bits of the largest channel's number."""
    return max(1, math.ceil(math.log2(channels)))


def decoded(seen: Tensor) -> tuple[Tensor, bool]:
    """The channel that arrived at each of a place, int64 (−1 none); whether several did at one."""
    ones, inverse = seen.chunk(2)
    reached = seen.any(0)
    mixed = bool((ones & inverse).any())
    number = (ones.long() << torch.arange(len(ones))[:, None]).sum(0)
    return torch.where(reached, number, -1), mixed


@contextmanager
def probed(
    model: nn.Module, shapes: dict[str, torch.Size], marks: Marks, arrivals: Arrivals
) -> Iterator[None]:
    """Every maker gives zeros, and NaNs where it is marked; NaNs are noted wherever they arrive."""
    with ExitStack() as stack:
        for name, m in model.named_modules():
            if is_place(m):
                stack.enter_context(noting(m, name, arrivals))
            if name in shapes:
                stack.enter_context(cut(m, shapes[name], marks.get(name), arrivals.images))
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
def cut(module: nn.Module, shape: torch.Size, mark: Tensor | None, images: int) -> Iterator[None]:
    """Let a layer give zeros, and NaNs where it is marked, instead of what it computes.

    ``shape`` is that of its output for one image: the first axis holds the rows that it makes.
    """

    def instead(x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            rows = x.shape[0] if shape[0] == 1 else images * shape[0]
            fresh = torch.zeros(rows, *shape[1:], device=x.device)
            if mark is not None:
                view = [images] + [1] * (fresh.ndim - 1)
                view[-1 if isinstance(module, nn.Linear) else 1] = mark.shape[1]
                fresh.masked_fill_(mark.to(x.device).view(view), torch.nan)
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

    ``arrivals[maker][place]`` numbers, for every channel of the place, the maker's channel that
    arrives there, int64, −1 none.  ``fixed`` says in words why a maker's channels must all stay;
    ``added`` names makers whose channels are added to those of others: the residual stream.
    """

    arrivals: dict[str, dict[str, Tensor]]
    channels: dict[str, int]  # that every maker makes
    fixed: dict[str, str]
    added: frozenset[str]


def couplings(model: nn.Module, pixels: tuple[int, ...]) -> Couplings:
    """Probe every maker of a network, and the images."""
    modules, shapes = dict(model.named_modules()), output_shapes(model, pixels)
    channels = {IMAGE: pixels[0], **{name: channels_made(modules[name]) for name in shapes}}
    look, makers, reach = partial(probe, model, shapes, pixels), list(channels), {}
    for first in range(0, len(makers), PASS):
        reach |= halved(partial(reached, look, channels), makers[first : first + PASS])
    found = {}
    for group in apart(reach):
        found |= halved(partial(told, look, channels, reach), group)
    arrivals = {maker: found[maker][0] for maker in makers}
    fixed = {maker: found[maker][1] for maker in makers if found[maker][1]}
    fixed[IMAGE] = "they are the images"
    return Couplings(arrivals, channels, fixed, added(reach))


def channels_made(module: nn.Module) -> int:
    """Output channels of a maker."""
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def probe(
    model: nn.Module, shapes: dict[str, torch.Size], pixels: tuple[int, ...], marks: Marks
) -> Arrivals:
    """One pass with NaNs where makers are marked, all in as many images."""
    seen = Arrivals(len(next(iter(marks.values()))))
    x = torch.zeros(seen.images, *pixels, device=device_of(model))
    if IMAGE in marks:
        x.masked_fill_(marks[IMAGE][:, :, None, None].to(x.device), torch.nan)
    with inference(model), probed(model, shapes, marks, seen):
        try:
            with seen:
                logits = model(x)
        except (RuntimeError, ValueError, IndexError) as error:
            seen.error = f"a network of NaNs cannot be run ({first_line(error)})"
            return seen
    seen.places[LOGITS].append(channels_of(None, logits))
    return seen


def halved(look: Callable[[list[str]], dict | None], makers: list[str]) -> dict:
    """What a look at makers finds of each, at once or, where that finds nothing, in halves."""
    found = look(makers)
    if found is not None:
        return found
    middle = len(makers) // 2
    return halved(look, makers[:middle]) | halved(look, makers[middle:])


@dataclass(frozen=True)
class Reach:
    """How far NaNs in all channels of a maker come."""

    places: Tensors  # place -> which of its channels, bool
    sides: set[Side]


def reached(
    look: Callable[[Marks], Arrivals], channels: dict[str, int], makers: list[str]
) -> dict[str, Reach] | None:
    """How far each of some makers reaches, an image for each; None where several end the pass."""
    images = torch.eye(len(makers), dtype=torch.bool)
    seen = look({m: images[:, i, None].repeat(1, channels[m]) for i, m in enumerate(makers)})
    if seen.error and len(makers) > 1:
        return None
    found = {maker: Reach({}, set()) for maker in makers}
    for place, calls in seen.places.items():
        every = in_images(calls, len(makers))
        for i in every.any(1).nonzero()[:, 0].tolist():
            found[makers[i]].places[place] = every[i]
    for side, own in seen.sums.items():
        for i in own.nonzero()[:, 0].tolist():
            found[makers[i]].sides.add(side)
    return found


def in_images(calls: list[Tensor], images: int) -> Tensor:
    """Which channels of a place have NaNs in which image in some call, bool (images, channels).

    Where the rows are no images, in all images.
    """
    rows = [own if len(own) == images else own.any(0).expand(images, -1) for own in calls]
    return torch.stack(rows).any(0)


def apart(reach: dict[str, Reach]) -> list[list[str]]:
    """Makers in groups; no two of a group reach the same channel of any place."""
    groups: list[tuple[list[str], Tensors]] = []  # with the channels that are reached
    for maker, own in reach.items():
        free = (group for group in groups if not overlap(own.places, group[1]))
        members, taken = next(free, ([], {}))
        if not members:
            groups.append((members, taken))
        members.append(maker)
        for place, at in own.places.items():
            taken[place] = taken[place] | at if place in taken else at
    return [members for members, _ in groups]


def overlap(one: Tensors, other: Tensors) -> bool:
    """Whether two sets of channels of places have any in common."""
    return any(bool((one[place] & other[place]).any()) for place in one.keys() & other.keys())


def told(
    look: Callable[[Marks], Arrivals],
    channels: dict[str, int],
    reach: dict[str, Reach],
    makers: list[str],
) -> dict[str, tuple[Tensors, str]] | None:
    """Of each maker of a group where its channels arrive, and why they must all stay.

    None where several makers end the pass, or show together what none of them reaches alone.
    """
    bits = max(bits_for(channels[maker]) for maker in makers)
    seen = look({maker: codes(channels[maker], bits) for maker in makers})
    strange = seen.error or stray(seen, [reach[maker] for maker in makers])
    if strange and len(makers) > 1:
        return None
    return {maker: own_arrivals(seen, reach[maker], strange) for maker in makers}


def stray(seen: Arrivals, reach: list[Reach]) -> str:
    """Where something arrived that no maker reaches as a whole, in words; nothing if nowhere."""
    for place, calls in seen.places.items():
        arrived = torch.stack([own.any(0) for own in calls]).any(0)
        for own in reach:
            if place in own.places:
                arrived &= ~own.places[place]
        if arrived.any():
            return f"some of its channels reach {place} in other ways than all of them"
    return ""


def own_arrivals(seen: Arrivals, reach: Reach, strange: str) -> tuple[Tensors, str]:
    """Of one maker where its channels arrive, and why they must all stay, if they must."""
    found, broken = {}, strange
    for place in (place for place in seen.places if place in reach.places):
        calls = seen.places[place]
        if len(calls) > 1:
            broken = broken or f"{place} is called {len(calls)} times in one pass"
        if any(len(own) != seen.images for own in calls):
            broken = broken or f"the rows that enter {place} are not images"
            continue
        within = torch.stack(calls).any(0) & reach.places[place]
        found[place], several = decoded(within)
        if several or (reach.places[place] & ~within.any(0)).any():
            broken = broken or f"its channels are mixed before {place}"
    if not broken and LOGITS in found:
        broken = "its channels are the network's outputs"
    return found, broken


def added(reach: dict[str, Reach]) -> frozenset[str]:
    """Makers that arrive at one side of an addition at whose other side another one does."""
    sides = {side for own in reach.values() for side in own.sides}
    both = {call for call, side in sides if (call, 1 - side) in sides}
    return frozenset(
        maker for maker, own in reach.items() if both & {call for call, _ in own.sides}
    )


@dataclass(frozen=True)
class Recorded:
    """A network that a granularity may look at: its modules, and on demand its couplings."""

    model: nn.Module
    pixels: tuple[int, ...]

    @cached_property
    def couplings(self) -> Couplings:
        return couplings(self.model, self.pixels)
