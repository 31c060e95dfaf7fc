"""Networks in a file of their own: kept values, what was taken out, how to build them.

Nothing in such a file is executed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mint_cli.errors import DataError, first_line, shortened
from mint_cli.network import surgery
from mint_cli.network.layers import normalise_inputs
from mint_cli.protocol import Tensors

Own = nn.Module | Callable[..., nn.Module]  # a network of one's own, or what builds it
FORMAT = "mint-packed-1"
MODELS = "mint_cli.model."  # the only modules that a file may name
SPARSE = 0.1  # share of zeros from which on kept values and bits take less than all values


def pack(
    about: dict[str, Any], state: Tensors, rows: Tensors, columns: Tensors, gone: Iterable[str] = ()
) -> bytes:
    """The content of a packed file; ``gone`` names modules of units that were taken out.

    ``about`` says how to build the network (``model``, ``settings``, ``shape``, ``classes``).
    Tensors with zeros are held as their other values and one bit an element, or one bit for every
    leading pair of axes where whole kernels are zero.
    """
    held: Tensors = {}
    shapes: dict[str, tuple[list[int], int]] = {}  # and over how many axes the mask goes
    sizes: dict[str, dict[str, int]] = {}
    for name, value in state.items():
        kept = mask_of(value)
        shapes[name] = list(value.shape), value.ndim if kept is None else kept.ndim
        if kept is None:
            held[f"whole/{name}"] = value.clone(memory_format=torch.contiguous_format)
        else:
            held[f"bits/{name}"] = bits_of(kept)
            held[f"values/{name}"] = value[kept].contiguous()
    for side, chosen in (("rows", rows), ("columns", columns)):
        held |= {f"{side}/{name}": bits_of(own) for name, own in chosen.items()}
        sizes[side] = {name: len(own) for name, own in chosen.items()}
    header = {"format": FORMAT, **about, "shapes": shapes, **sizes, "gone": list(gone)}
    return save(held, {"mint": json.dumps(header)})


def mask_of(value: Tensor) -> Tensor | None:
    """Which elements (or pairs of leading axes) are not 0.0; None where all values take less."""
    if value.ndim < 2 or not value.is_floating_point():
        return None
    kept = value != 0  # −0.0 comes back as 0.0: a masked weight may be either
    if float((~kept).double().mean()) < SPARSE:
        return None
    pairs = kept.flatten(2).any(2) if value.ndim > 2 else kept
    return pairs if int(pairs.sum()) * math.prod(value.shape[2:]) == int(kept.sum()) else kept


def bits_of(mask: Tensor) -> Tensor:
    """A bool tensor as uint8, eight elements a byte."""
    flat = mask.flatten()
    padded = torch.cat([flat, flat.new_zeros(-len(flat) % 8)]).view(-1, 8)
    return (padded.byte() << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def mask_from(bits: Tensor, shape: list[int]) -> Tensor:
    """The bool tensor of that shape whose bits these are; DataError for too few or too many
    bytes.
    """
    count = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.ndim != 1 or len(bits) != -(-count // 8):
        wanted = -(-count // 8)
        raise DataError(
            f"a mask of {count} elements must have {wanted} bytes, not {list(bits.shape)}"
        )
    return (
        ((bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1)
        .bool()
        .flatten()[:count]
        .view(shape)
    )


def load(path: str | Path, model: Own | None = None) -> nn.Module:
    """The network of a packed file, bit for bit, in evaluation mode; it takes pixels in [0, 1].

    ``model`` is a network of one's own before anything was removed, of any values, or a function of
    shape and classes that builds it, which is given those of the file's settings that it asks for
    by keyword.  Without it the file must name a network of this package.  Raises DataError for a
    file that is no whole packed network.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("mint", "null"))
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise DataError(f"{path} is no packed network: its header does not say {FORMAT}")
            # copies: what is left mapped goes with the file when that is replaced
            held = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no whole packed network: {first_line(error)}") from error
    try:
        return rebuilt(header, held, model)
    except DataError as error:
        raise DataError(f"{path} is no whole packed network: {error}") from error
    except Exception as error:  # whatever an edited header makes a network's function do
        told = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"{path} is no whole packed network: {told}") from error


def rebuilt(header: dict[str, Any], held: Tensors, model: Own | None) -> nn.Module:
    """The network that a header and tensors describe.

    One of this package's is built without memory for its values: only what the file holds takes
    any.
    """
    shape, classes = tuple(int(n) for n in header["shape"]), int(header["classes"])
    if len(shape) != 3 or not all(0 < n <= 10_000 for n in (*shape, classes)):
        raise DataError(f"a network for images of shape {shape} and {classes} classes is none")
    if isinstance(model, nn.Module):
        built = deepcopy(model)
    elif model:
        built = model(shape, classes, **asked_for(model, header["settings"]))
    else:
        with torch.device("meta"):
            built = own(header["model"])(shape, classes, **header["settings"])
    normalise_inputs(built, (0.0,) * shape[0], (1.0,) * shape[0])
    sides = (
        {n: mask_from(held[f"{side}/{n}"], [int(size)]) for n, size in header[side].items()}
        for side in ("rows", "columns")
    )
    surgery.narrow(built, *sides)
    surgery.drop(built, [str(name) for name in header.get("gone", [])])
    wanted, shapes = built.state_dict(), header["shapes"]
    for name in wanted.keys() | shapes.keys():
        if name not in wanted or name not in shapes or list(wanted[name].shape) != shapes[name][0]:
            raise DataError(f"the network has no {name} of the shape that the packed file says")
    state = {name: unpacked(name, held, *shapes[name]) for name in shapes}
    for name, value in state.items():
        if value.dtype != wanted[name].dtype:
            raise DataError(f"{name} must be {wanted[name].dtype}, not {value.dtype}")
    built.load_state_dict(state, assign=True)
    return built.eval()


def asked_for(model: Callable, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that a function takes by keyword alone and has no default for."""
    parameters = inspect.signature(model).parameters.values()
    wanted = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    return {name: settings[name] for name in wanted if name in settings}


def unpacked(name: str, held: Tensors, shape: list[int], axes: int) -> Tensor:
    """One tensor of the state, of that shape, its mask over so many leading axes."""
    if f"whole/{name}" in held:
        return held[f"whole/{name}"]
    mask, values = mask_from(held[f"bits/{name}"], shape[:axes]), held[f"values/{name}"]
    if values.shape != (int(mask.sum()), *shape[axes:]):
        raise DataError(f"{name} has {list(values.shape)} values, not as many as its mask keeps")
    value = torch.zeros(shape, dtype=values.dtype)
    value[mask] = values
    return value


def own(target: str) -> Callable[..., nn.Module]:
    """A network of this package by the name of its function; DataError for any other name."""
    module, _, function = str(target).rpartition(".")
    if module != f"{MODELS}{function}" or not function.isidentifier():
        bound = f"may name networks of this package, not {shortened(target)}"
        raise DataError(f"a packed file {bound}; load one of your own with model=…")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DataError(f"this package has no network {target}") from error
    if not inspect.isfunction(found):
        raise DataError(f"{target} is no network")
    return found
