"""Checks before any work: settings against signatures, bounds against the network and the data."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Collection
from functools import partial
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import nn

from mint_cli.network import layer_shapes, prunable_layers, weight_counts
from mint_cli.protocol import SettingError

BY_LAYER = ("caps", "child_groups", "parent_groups")  # settings that may be a mapping from layers


def bind(plugin: partial) -> None:
    """Compare a plug-in's settings with its function's signature; SettingError names the setting and the nearest one."""
    parameters = inspect.signature(plugin.func).parameters.values()
    settings = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    where = f"{plugin.func.__module__.removeprefix('mint_cli.')}"
    for name in plugin.keywords:
        if name not in settings:
            raise SettingError(f"{where} has no setting {name}; {nearest(name, settings)}")
        if isinstance(plugin.keywords[name], partial):
            bind(plugin.keywords[name])
    missing = [name for name in settings if name not in plugin.keywords]
    if missing:
        raise SettingError(f"{where} needs the setting {missing[0]}")
    check_types(where, plugin.func, plugin.keywords)


def check_types(where: str, annotated: Any, values: dict[str, Any]) -> None:
    """SettingError for the first value that is not of its annotated type; a whole number passes for a float."""
    for name, hint in get_type_hints(annotated).items():
        if name in values and not fits(values[name], hint):
            raise SettingError(f"{where}: setting {name} must be {described(hint)}, not {values[name]!r}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type the hint allows, contents of lists and mappings too; nan is no number."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(fits(value, one) for one in inside)
    if isinstance(value, bool):
        return kind is bool
    if not isinstance(value, (int, float) if kind is float else kind) or value != value:
        return False
    contents = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(fits(one, inside[-1]) for one in contents) if inside else True


def described(hint: Any) -> str:
    """A hint in words."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return " or ".join(described(one) for one in inside)
    if kind in (list, dict) and inside:
        return f"{'a list of' if kind is list else 'a mapping to'} {described(inside[-1])}"
    return "null" if kind is type(None) else kind.__name__


def nearest(name: str, known: list[str]) -> str:
    """A hint at the settings that exist, the nearest first if one is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"


def check_layers(plugin: partial, layers: Collection[str]) -> None:
    """SettingError if a setting by layer names one that the network does not have; skipped layers may be named."""
    for name in BY_LAYER:
        setting = plugin.keywords.get(name)
        for layer in setting if isinstance(setting, dict) else ():
            if layer not in layers and (layer != "default" or name == "caps"):
                raise SettingError(
                    f"pruner.{name} names layer {layer}, which the network does not have; {nearest(str(layer), list(layers))}"
                )


def check(experiment) -> None:
    """Raise SettingError or DataError for whatever would fail later: layers, groups, samples, quotas, files."""
    labels = experiment.data.splits.train.labels
    wanted = experiment.batch_norm_images
    if wanted and not 2 <= wanted <= len(labels):
        raise SettingError(f"pruner.batch_norm_images must be 0 or lie between 2 and {len(labels)}, the training images, not {wanted}")
    model = experiment.network.build()
    counts = weight_counts(model)
    layers = prunable_layers(model, experiment.skip)
    if not layers:
        raise SettingError("pruner.skip leaves no layer to prune")
    if any(isinstance(m, nn.BatchNorm1d) for m in model.modules()):
        for name, recipe in (("train", None if experiment.weights else experiment.train), ("retrain", experiment.retrain)):
            if recipe and recipe.epochs and min(recipe.batch_size, len(labels)) < 2:
                raise SettingError(f"schedule.{name}.batch_size and the training images must be at least 2 for this network's batch norm")
    shapes = layer_shapes(model, layers, tuple(experiment.data.splits.train.pixels.shape[1:]))
    for plugin in (experiment.criterion, experiment.allocation, experiment.compensation):
        check_layers(plugin, counts)
        if plugin.keywords.get("batch_size", 1) < 1:
            raise SettingError(f"setting batch_size of {plugin.func.__name__} must be at least 1, not {plugin.keywords['batch_size']}")
    for plugin in (experiment.criterion, experiment.compensation):
        precondition(plugin)(shapes, labels, **plugin.keywords)
        for nested in (v for v in plugin.keywords.values() if isinstance(v, partial)):  # an estimator
            precondition(nested)(plugin.keywords["samples_per_class"] * len(labels.unique()), **nested.keywords)
    experiment.allocation({name: torch.zeros(shape[:2]) for name, shape in shapes.items()}, counts)  # quotas reachable?


def precondition(plugin: partial) -> Callable[..., None]:
    """The ``check`` of a plug-in's module; one that accepts everything where there is none."""
    return getattr(sys.modules[plugin.func.__module__], "check", lambda *arguments, **settings: None)
