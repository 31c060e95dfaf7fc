"""Checkpoints: a network's values from a file, matched by name, or by position on request."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mint_cli.errors import SettingError, shortened
from mint_cli.network import tensorfile
from mint_cli.network.layers import spread, weight_counts
from mint_cli.network.tensorfile import TOP, Entry
from mint_cli.protocol import Masks, Tensors
from mint_cli.signatures import nearest

log = logging.getLogger(__name__)

Entries = dict[str, Entry]  # tensors of one mapping in a file, by name
Places = dict[str, Entries]  # by the dotted path of the mapping

MATCHES = ("name", "position")
CONTAINERS = {  # mappings in which training programmes keep the network's tensors
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "backbone"),
    *("state_dict_ema", "model_ema", "ema_model", "ema", "ema_state_dict"),
    *("params", "params_ema", "weights"),
}
PREFIXES = (  # of all names: what wraps a whole network; state/ is the store's
    *("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module."),
    *("model.", "net.", "network.", "backbone.", "state/"),
)
INSIDE = re.compile(r"_(orig_mod|(fsdp|checkpoint)_wrapped_module)\.")  # of wrapped layers
NORMALISATION = ("input_mean", "input_std")  # buffers of layers.normalise_inputs
COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")  # change no result
MANY_ZEROS = 0.01  # share of the weights above which they are hardly an accident
NAMED = 3  # names in a message, of those that do not fit


@dataclass(frozen=True)
class Known:
    """What a public file does not say: how its inputs are normalised (pixels in [0, 1]).

    Its tensors lie in the order in which our network of that name defines its own, so they may be
    matched by position without being asked.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


KNOWN = {  # by SHA-256
    # gh:akamaster/pytorch_resnet_cifar10, ResNet56: 93.39 % of the 10,000 test images
    "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367": Known(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ),
    # vgg16_bn_cifar10_fp16.pth, VGG16 with batch norm on CIFAR-10, float16: 92.38 %
    "b3e99c7258c5deb4cbd7f45469048add5240e63f040d08fa8a05a75d32345ef1": Known(
        (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    ),
    # DenseNet-BC-100-12 on CIFAR-10, the checkpoint published with DICE: 94.03 %
    "deaefd082911a1c6c92aacdcfecf03c71b932acc5c08b779c85c44eccdc0c817": Known(
        (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)
    ),
}


Way = Callable[[Tensors, Entries, Iterable[str]], "Match | None"]


class UnfitError(Exception):
    """Why a file's tensors are none for the network, in words."""


@dataclass(frozen=True)
class Checkpoint:
    """A file to start from and how it is read: its content, not its place, is part of a key."""

    path: Path
    sha256: str
    key: str | None
    match: str
    zeros: bool
    new: tuple[str, ...] = ()  # modules, or patterns with *, that start fresh instead

    @classmethod
    def of(
        cls, path: str | Path, key: str | None, match: str, zeros: bool, new: Iterable[str] = ()
    ) -> Checkpoint:
        """The checkpoint in the file ``path``, hashed; SettingError for what cannot be one.

        ``key`` says where in a nested file the tensors lie (dotted), ``match`` is ``name`` or
        ``position``, ``zeros`` keeps the zeros of its weights, ``new`` are names or patterns of
        modules whose tensors are not taken from the file, whatever it has in their places.
        """
        if not isinstance(path, str | Path) or not str(path):
            raise SettingError("checkpoint", "must name a file", path)
        if key is not None and (not isinstance(key, str) or not key):
            raise SettingError("checkpoint_key", "must be null or where the tensors lie", repr(key))
        if match not in MATCHES:
            raise SettingError("checkpoint_match", "must be name or position", match)
        if not isinstance(zeros, bool):
            raise SettingError("checkpoint_zeros", "must be true or false", zeros)
        try:
            sha256, ordered = tensorfile.digest(Path(path))
        except tensorfile.UnreadableError as error:
            raise unreadable(path, error) from error
        if match == "position" and not ordered:
            hint = f"{path} is a safetensors file, which keeps no order"
            raise SettingError("checkpoint_match", "must be name", match, hint)
        return cls(Path(path), sha256, key, match, zeros, tuple(new))

    def identity(self) -> dict[str, Any]:
        """What a key knows; nothing new is not mentioned, as before there was the choice."""
        known = {"sha256": self.sha256, "key": self.key, "match": self.match, "zeros": self.zeros}
        return known | ({"new": sorted(set(self.new))} if self.new else {})


@dataclass(frozen=True)
class Report:
    """What ``load`` did: how tensors were matched, in words, and masks of zeros that stay."""

    matched: str
    masks: Masks


@dataclass(frozen=True)
class Match:
    """Which of a file's tensors is which of the network's, and how that was found, in words."""

    names: dict[str, str]
    how: str


def load(checkpoint: Checkpoint, model: nn.Module) -> Report:
    """Give ``model`` the values of the checkpoint; SettingError for the first thing that is amiss.

    What a file may lack (counters of batch norm, the input normalisation) and what is to start
    anew stay as they are.
    """
    check_new(model, checkpoint.new)
    own = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    try:
        held = content(checkpoint, own)
        found = tensorfile.read(held, most_text(own))
        given, match = chosen(own, found, checkpoint, tensorfile.is_torch(held))
        values = fitted(own, given, match) | normalisation(own, KNOWN.get(checkpoint.sha256))
        model.load_state_dict(model.state_dict() | values)
        refuse_torn(model, values)
        new = checkpoint.new
        kept = masks(model, new) | given_masks(model, given, new) if checkpoint.zeros else {}
    except tensorfile.UnreadableError as error:
        raise unreadable(checkpoint.path, error) from error
    except UnfitError as error:
        bound = "must name a file that fits the network"
        raise SettingError("checkpoint", bound, checkpoint.path, str(error)) from error
    inputs = "" if NORMALISATION[0] in values else "; inputs are normalised as the data set says"
    how = match.how + (", a file whose content is known" if checkpoint.sha256 in KNOWN else "")
    anew = f"; {', '.join(checkpoint.new)} anew" if checkpoint.new else ""
    report = Report(f"{sum(map(essential, match.names))} tensors {how}{inputs}{anew}", kept)
    log.info("%s: %s", checkpoint.path.name, report.matched)
    if not checkpoint.zeros:
        warn_of_zeros(model, checkpoint.path.name)
    return report


def unreadable(path: str | Path, error: tensorfile.UnreadableError) -> SettingError:
    """The sentence for a file that cannot be read."""
    bound = "must name a whole safetensors or torch file"
    return SettingError("checkpoint", bound, path, str(error))


def content(checkpoint: Checkpoint, own: Tensors) -> bytes:
    """The bytes that were hashed, at most 16 times the network's (averages, optimisers)."""
    most = 2**24 + 16 * sum(t.nbytes for t in own.values())
    held = tensorfile.content(checkpoint.path, most)
    if hashlib.sha256(held).hexdigest() != checkpoint.sha256:
        raise tensorfile.UnreadableError("it has been replaced since the run began")
    return held


def most_text(own: Tensors) -> int:
    """Bytes in which a file may describe its tensors, of which each takes some hundreds."""
    return 2**20 + 1000 * len(own)


def chosen(
    own: Tensors, found: Places, checkpoint: Checkpoint, ordered: bool
) -> tuple[Entries, Match]:
    """The tensors in a file that fit the network, and how; UnfitError where none do.

    A file whose content is known is matched by position where its names are not the network's.
    """
    by_order = checkpoint.match == "position"
    ways = [by_position] if by_order else [by_name, by_position][: 1 + (checkpoint.sha256 in KNOWN)]
    places = candidates(found, checkpoint.key)
    for way in ways:
        tried = {place: way(own, e, checkpoint.new) for place, e in places.items()}
        matches = {place: match for place, match in tried.items() if match}
        fits = [p for p, match in matches.items() if not misshapen(own, places[p], match)]
        if len(fits) > 1:
            bound = f"must choose between {listed(fits)}, which all fit the network"
            hint = f"checkpoint_key={shown(fits[0])} takes the first"
            raise SettingError("checkpoint_key", bound, hint=hint)
        if fits:
            return places[fits[0]], matches[fits[0]]
    mine = set(bare(own)[0])
    closest = max(places.values(), key=lambda entries: len(mine & set(bare(entries)[0])))
    others = listed(place for place in found if place not in places)
    hint = f"; checkpoint_key can choose {others}" if others else ""
    raise UnfitError(misfit(own, closest, checkpoint, ordered) + hint)


def candidates(found: Places, key: str | None) -> Places:
    """Where in a file the network's tensors may lie: in the usual mappings, or where ``key`` says.

    ``key`` is the path of a mapping, or what the names of one network begin with beside another's.
    """
    if key is None:
        usual = {p: e for p, e in found.items() if p == TOP or CONTAINERS.issuperset(p.split("."))}
        return usual or found
    if key in found:
        return {key: found[key]}
    below = {place: entries for place, entries in found.items() if place.startswith(f"{key}.")}
    if below:
        return below
    for place, entries in found.items():
        start = key if place == TOP else key.removeprefix(f"{place}.")
        inside = [name for name in entries if name.startswith(f"{start}.")]
        if inside:
            return {key: {name.removeprefix(f"{start}."): entries[name] for name in inside}}
    there = ", ".join(shown(place) for place in list(found)[:10])
    raise SettingError("checkpoint_key", f"must be one of {there}", key)


def essential(name: str) -> bool:
    """Whether all files of an architecture share a name: no counter, normalisation or mask."""
    beside = "/" in name and not name.startswith("state/")  # in an artifact of the store
    return last(name) not in COUNTERS and name not in NORMALISATION and not beside


def bare(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """Names by what is left of them without wrappers, and what all have lost at the beginning."""
    telling = [name for name in names if essential(name)]
    prefix = ""
    while telling and (
        step := next((p for p in PREFIXES if all(n.startswith(prefix + p) for n in telling)), "")
    ):
        prefix += step
    left = {INSIDE.sub("", name.removeprefix(prefix)): name for name in names}
    return (left, prefix) if len(left) == len(set(names)) else ({name: name for name in names}, "")


def is_new(name: str, new: Iterable[str]) -> bool:
    """Whether a tensor lies in a module, or below one, that is to start anew."""
    parts = name.split(".")[:-1]
    modules = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatchcase(module, pattern) for module in modules for pattern in new)


def new_modules(model: nn.Module, new: Iterable[str]) -> list[str]:
    """The modules that start anew, those below them included."""
    return [name for name, _ in model.named_modules() if is_new(f"{name}.", new)]


def check_new(model: nn.Module, new: Iterable[str]) -> None:
    """SettingError for a pattern of no module that has weights, and where no weight is left."""
    modules = {n: m for n, m in model.named_modules() if n and any(True for _ in m.parameters())}
    for pattern in new:
        if not any(fnmatchcase(name, pattern) for name in modules):
            hint = nearest(pattern, modules)
            raise SettingError("checkpoint_new", "must name modules with weights", pattern, hint)
    if all(is_new(name, new) for name, _ in model.named_parameters()):
        raise SettingError("checkpoint_new", "leaves nothing that the file could give")


def by_name(own: Tensors, given: Entries, new: Iterable[str]) -> Match | None:
    """The match of equal names, else of names that are equal without what wraps a network.

    What is ``new`` has no match and needs none, on either side.
    """
    wanted, wrapped = [n for n in own if not is_new(n, new)], bare(own)[1]
    there = bare(given)[0].items()
    left = [n for b, n in there if not is_new(b, new) and not is_new(wrapped + b, new)]
    same = {name: name for name in wanted}, {name: name for name in given if not is_new(name, new)}
    (mine, added), (theirs, removed) = bare(wanted), bare(left)
    notes = [f"{p} {done}" for p, done in ((removed, "removed"), (added, "added")) if p]
    how = f"by name (prefix {', '.join(notes)})" if notes else "by name"
    for (ours, yours), words in ((same, "by name"), ((mine, theirs), how)):
        if set(filter(essential, ours)) == set(filter(essential, yours)):
            shared = (n for n in ours if n in yours and (essential(n) or n in NORMALISATION))
            return Match({ours[n]: yours[n] for n in shared}, words)
    return None


def by_position(own: Tensors, given: Entries, new: Iterable[str]) -> Match | None:
    """The match in order of definition, where the last parts of all names agree.

    The file may have something in the places of what is ``new`` or lack these places.
    """
    there = bare(given)[0]
    ordered, every = list(filter(essential, there)), list(filter(essential, own))
    for wanted in (every, [n for n in every if not is_new(n, new)]):
        if list(map(last, wanted)) == list(map(last, ordered)):
            pairs = zip(wanted, ordered, strict=True)
            names = {ours: there[theirs] for ours, theirs in pairs if not is_new(ours, new)}
            names |= {n: there[n] for n in NORMALISATION if n in there and n in own}
            return Match(names, "by position")
    return None


def last(name: str | None) -> str | None:
    """The last part of a dotted name."""
    return name and name.rpartition(".")[2]


def misshapen(own: Tensors, given: Entries, match: Match) -> str | None:
    """The network's first tensor whose match has another shape, or is none that can be read."""
    pairs = ((ours, given[theirs]) for ours, theirs in match.names.items() if essential(ours))
    return next((name for name, e in pairs if e.odd or e.shape != own[name].shape), None)


def misfit(own: Tensors, given: Entries, checkpoint: Checkpoint, ordered: bool) -> str:
    """Why tensors do not fit the network, in words, and what can be set so that they do."""
    new, match = checkpoint.new, checkpoint.match
    named = by_name(own, given, new)
    placed = by_position(own, given, new) if ordered else None
    way = by_position if match == "position" or not named else by_name
    advice = anew(own, given, by_name, new) if match == "name" and not named else ""
    found = None if advice else placed if way is by_position else named
    wrong = found and misshapen(own, given, found)
    if wrong:
        return difference(wrong, found.names[wrong], own, given) + anew(own, given, way, new)
    if match == "position":
        pairs = zip_longest(filter(essential, own), filter(essential, given))
        return difference(*next(p for p in pairs if last(p[0]) != last(p[1])), own, given)
    words = f"it {unshared(own, given, new)}"
    if placed and not advice:
        return f"{words}; checkpoint_match=position matches by order of definition"
    return words + advice


def unshared(own: Tensors, given: Entries, new: Iterable[str]) -> str:
    """Names that a network or a file has alone, in words."""
    mine, theirs = bare(own)[0], bare(given)[0]
    mine = {n: name for n, name in mine.items() if not is_new(name, new)}
    theirs = {n: name for n, name in theirs.items() if not is_new(n, new)}
    lacking = listed(mine[n] for n in mine if essential(n) and n not in theirs)
    besides = listed(theirs[n] for n in theirs if essential(n) and n not in mine)
    return " and ".join(
        f"{verb} {names}" for verb, names in (("lacks", lacking), ("has", besides)) if names
    )


def anew(own: Tensors, given: Entries, way: Way, new: tuple[str, ...]) -> str:
    """What can be typed so that the modules that do not fit start anew, if all else fits."""
    theirs = counterparts(own, given, way)
    unfit = {n for n in own if essential(n) and not is_new(n, new)}
    unfit -= {n for n, t in theirs.items() if not given[t].odd and given[t].shape == own[n].shape}
    modules = list(dict.fromkeys((*new, *(whole(n, own, unfit) for n in own if n in unfit))))
    if "" in modules or len(modules) > NAMED + len(new):
        return ""
    match = way(own, given, modules)
    if match is None or misshapen(own, given, match) or not any(map(essential, match.names)):
        return ""
    return f"; checkpoint_new=[{','.join(modules)}] starts with new weights there, on purpose"


def counterparts(own: Tensors, given: Entries, way: Way) -> dict[str, str]:
    """Tensors of the network whose place is known in a file, of whatever shape."""
    if way is by_position:
        match = by_position(own, given, ())
        return match.names if match else {}
    (mine, _), (theirs, _) = bare(own), bare(given)
    return {ours: theirs[n] for n, ours in mine.items() if n in theirs}


def whole(name: str, own: Tensors, unfit: set[str]) -> str:
    """The largest module around a tensor of which no tensor fits."""
    module = name.rpartition(".")[0]
    while above := module.rpartition(".")[0]:
        if any(n not in unfit for n in own if n.startswith(f"{above}.") and essential(n)):
            break
        module = above
    return module


def difference(ours: str | None, theirs: str | None, own: Tensors, given: Entries) -> str:
    """Two entries that do not agree, in words."""
    mine = f"{ours} {tuple(own[ours].shape)}" if ours else "nothing more"
    if theirs is None:
        return f"the network has {mine} where the file ends"
    entry = given[theirs]
    what = f"a tensor that is {entry.odd}" if entry.odd else str(entry.shape)
    return f"the network has {mine} but the file has {shown(theirs)} {what}"


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more."""
    names = list(names)
    more = f" ({len(names) - NAMED} more)" if len(names) > NAMED else ""
    return ", ".join(map(shown, names[:NAMED])) + more


def shown(name: str) -> str:
    """A name from a file, fit to be printed."""
    return shortened(name if name.isprintable() else ascii(name), 80)


def fitted(own: Tensors, given: Entries, match: Match) -> Tensors:
    """The file's values by the network's names and of its types; UnfitError for what are none."""
    values = {n: value(n, own[n], given[theirs]) for n, theirs in match.names.items()}
    if len(set(NORMALISATION) & set(values)) == 1:
        raise UnfitError("it has only one of input_mean and input_std")
    if NORMALISATION[1] in values and not (values[NORMALISATION[1]] > 0).all():
        raise UnfitError("input_std is not above 0 everywhere")
    variances = (n for n in values if last(n) == "running_var")
    if negative := next((n for n in variances if (values[n] < 0).any()), None):
        raise UnfitError(f"the variance {negative} is below 0 somewhere")
    return values


def value(name: str, own: Tensor, entry: Entry) -> Tensor:
    """One tensor of a file as the network's ``name``; its size is compared before it is made."""
    if entry.odd:
        raise UnfitError(f"{name} is {entry.odd}")
    size = math.prod(entry.shape)
    if size != own.numel():  # of an input normalisation: all other shapes have been compared
        raise UnfitError(f"{name} is for images of {size} channels, not {own.numel()}")
    if kind(entry.dtype) != kind(own.dtype):
        raise UnfitError(f"{name} holds {kind(entry.dtype)} numbers, not {kind(own.dtype)} ones")
    converted = entry.make().to(own.dtype).reshape(own.shape)
    if own.is_floating_point() and not converted.isfinite().all():
        raise UnfitError(f"{name} holds numbers that are not finite (as {own.dtype})")
    return converted


def kind(dtype: torch.dtype) -> str:
    """What numbers of a type are, in a word."""
    if dtype == torch.bool:
        return "Boolean"
    return "real" if dtype.is_floating_point else "complex" if dtype.is_complex else "whole"


def normalisation(own: Tensors, known: Known | None) -> Tensors:
    """The input normalisation of a file whose content is known."""
    if known is None or NORMALISATION[0] not in own:
        return {}
    pairs = zip(NORMALISATION, (known.mean, known.std), strict=True)
    return {name: torch.tensor(values).view_as(own[name]) for name, values in pairs}


def refuse_torn(model: nn.Module, values: Tensors) -> None:
    """UnfitError where tensors that are one in the network differ in the file."""
    after = model.state_dict()
    torn = next((n for n, v in values.items() if not torch.equal(after[n].cpu(), v)), None)
    if torn:
        raise UnfitError(f"{torn} is one with another tensor of the network, but not in the file")


def masks(model: nn.Module, new: Iterable[str] = ()) -> Masks:
    """True where a weight is not exactly 0.0, of every convolution and linear weight with zeros.

    What is ``new`` has none.
    """
    names = [name for name in weight_counts(model) if not is_new(name, new)]
    stay = {name: (model.get_parameter(name) != 0).cpu() for name in names}
    return {name: mask for name, mask in stay.items() if not mask.all()}


def given_masks(model: nn.Module, given: Entries, new: Iterable[str]) -> Masks:
    """The masks in an artifact of the store; UnfitError where they do not fit its values."""
    found, parameters = {}, dict(model.named_parameters())
    for name, p in parameters.items():
        entry = given.get(f"mask/{name}")
        if entry is None or is_new(name, new):
            continue
        if entry.dtype != torch.bool or entry.shape != p.shape[: len(entry.shape)]:
            raise UnfitError(f"mask/{name} is no mask of {name}")
        found[name] = entry.make()
        if p.detach().cpu()[~spread(found[name], p.ndim).expand_as(p)].any():
            raise UnfitError(f"mask/{name} removes weights that are not zero")
    return found


def warn_of_zeros(model: nn.Module, name: str) -> None:
    """One warning line for a sparse network whose zeros are not kept."""
    counts = weight_counts(model)
    zeros = sum(int((model.get_parameter(n) == 0).sum()) for n in counts)
    if zeros > MANY_ZEROS * sum(counts.values()):
        share = 100 * zeros / sum(counts.values())
        log.warning(
            "%s: %d of its weights (%.1f %%) are exactly zero and will not be kept so; "
            "checkpoint_zeros=true keeps them",
            name,
            zeros,
            share,
        )
