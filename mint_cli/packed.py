"""Networks in a file of their own: kept values, what was taken out, and how to build them; nothing in it is executed."""

from __future__ import annotations

import importlib
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mint_cli.errors import DataError
from mint_cli.network import surgery
from mint_cli.network.layers import normalise_inputs
from mint_cli.protocol import Tensors

FORMAT = "mint-packed-1"
MODELS = "mint_cli.model."  # the only modules that a file may name
SPARSE = 0.1  # share of zeros from which on kept values and bits take less than all values


def pack(about: dict[str, Any], state: Tensors, rows: Tensors, columns: Tensors) -> bytes:
    """The content of a packed file: ``about`` says how to build the network (``model``, ``settings``, ``shape``, ``classes``).

    Tensors with zeros are held as their other values and one bit an element, or one bit for every
    leading pair of axes where whole kernels are zero.
    """
    held: Tensors = {}
    for name, value in state.items():
        kept = mask_of(value)
        if kept is None:
            held[f"whole/{name}"] = value.contiguous()
        else:
            held[f"bits/{name}"] = bits_of(kept)
            held[f"values/{name}"] = value[kept].contiguous()
    for side, chosen in (("rows", rows), ("columns", columns)):
        held |= {f"{side}/{name}": bits_of(own) for name, own in chosen.items()}
    shapes = {name: [list(v.shape), v.ndim if (m := mask_of(v)) is None else m.ndim] for name, v in state.items()}
    sizes = {side: {n: len(own) for n, own in part.items()} for side, part in (("rows", rows), ("columns", columns))}
    header = {"format": FORMAT, **about, "shapes": shapes, **sizes}
    return save(held, {"mint": json.dumps(header)})


def mask_of(value: Tensor) -> Tensor | None:
    """Which elements (or leading pairs of axes) of a tensor are not 0.0; None where all values take less."""
    if value.ndim < 2 or not value.is_floating_point() or float((value == 0).double().mean()) < SPARSE:
        return None
    pairs = (value != 0).flatten(2).any(2) if value.ndim > 2 else value != 0
    if value.ndim > 2 and int(pairs.sum()) * math.prod(value.shape[2:]) == int((value != 0).sum()):
        return pairs
    return value != 0


def bits_of(mask: Tensor) -> Tensor:
    """A bool tensor as uint8, eight elements a byte."""
    flat = mask.flatten()
    padded = torch.cat([flat, flat.new_zeros(-len(flat) % 8)]).view(-1, 8)
    return (padded.byte() << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def mask_from(bits: Tensor, shape: list[int]) -> Tensor:
    """The bool tensor of that shape whose bits these are; DataError for too few or too many bytes."""
    count = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.ndim != 1 or len(bits) != -(-count // 8):
        raise DataError(f"a packed mask of {count} elements must have {-(-count // 8)} bytes, not {list(bits.shape)}")
    return ((bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).bool().flatten()[:count].view(shape)


def load(path: str | Path, model: Callable[..., nn.Module] | None = None) -> nn.Module:
    """The network of a packed file, bit for bit, in evaluation mode; it takes pixels in [0, 1].

    ``model`` (a function of shape and classes) builds a network of one's own; without it the file
    must name one of this package's.  Raises DataError for a file that is no whole packed network.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("mint", "null"))
            held = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path} is no whole packed network: {str(error).splitlines()[0]}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path} is no packed network of this package: its header does not say {FORMAT}")
    try:
        return rebuilt(header, held, model)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise DataError(f"{path} is no whole packed network: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def rebuilt(header: dict[str, Any], held: Tensors, model: Callable[..., nn.Module] | None) -> nn.Module:
    """The network that a header and tensors describe."""
    shape, classes = tuple(int(n) for n in header["shape"]), int(header["classes"])
    if len(shape) != 3 or not all(0 < n <= 10_000 for n in (*shape, classes)):
        raise DataError(f"a network for images of shape {shape} and {classes} classes is none")
    built = model(shape, classes) if model else own(header["model"])(shape, classes, **header["settings"])
    normalise_inputs(built, (0.0,) * shape[0], (1.0,) * shape[0])
    sides = (
        {n: mask_from(held[f"{side}/{n}"], [int(size)]) for n, size in header[side].items()}
        for side in ("rows", "columns")
    )
    surgery.narrow(built, *sides)
    built.load_state_dict({name: unpacked(name, held, *header["shapes"][name]) for name in header["shapes"]})
    return built.eval()


def unpacked(name: str, held: Tensors, shape: list[int], axes: int) -> Tensor:
    """One tensor of the state, of that shape, its mask over so many leading axes."""
    if f"whole/{name}" in held:
        return held[f"whole/{name}"]
    values = held[f"values/{name}"]
    value = torch.zeros(shape, dtype=values.dtype)
    value[mask_from(held[f"bits/{name}"], shape[:axes])] = values
    return value


def own(target: str) -> Callable[..., nn.Module]:
    """A network of this package by the name of its function; DataError for any other name."""
    module, _, function = str(target).rpartition(".")
    if module != f"{MODELS}{function}" or not function.isidentifier():
        raise DataError(f"a packed file may name networks of this package, not {target}; load it with model=…")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DataError(f"this package has no network {target}") from error
    if not inspect.isfunction(found):
        raise DataError(f"{target} is no network")
    return found
