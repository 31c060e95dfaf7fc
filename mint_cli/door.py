"""Checks before any work: settings against signatures, bounds against the network and the data."""

from __future__ import annotations

import difflib
import inspect
import sys
from functools import partial

import torch

from mint_cli.network import prunable_layers, weight_counts, weighted_layers
from mint_cli.protocol import SettingError


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


def nearest(name: str, known: list[str]) -> str:
    """A hint at the settings that exist, the nearest first if one is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"


def check(experiment) -> None:
    """Raise SettingError or DataError for whatever would fail later: layers, groups, samples, quotas, files."""
    labels = experiment.data.splits.train.labels
    model = experiment.network.build()
    layers = prunable_layers(model, experiment.skip)
    if not layers:
        raise SettingError("pruner.skip leaves no layer to prune")
    modules = weighted_layers(model)
    shapes = {name: tuple(modules[name].weight.shape[:2]) for name in layers}
    for plugin in (experiment.criterion, experiment.compensation):
        precondition = getattr(sys.modules[plugin.func.__module__], "check", None)
        if precondition:
            precondition(shapes, labels, **plugin.keywords)
    experiment.allocation({name: torch.zeros(shape) for name, shape in shapes.items()}, weight_counts(model))  # quotas reachable?
