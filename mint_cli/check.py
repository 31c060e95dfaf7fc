"""One dry run on the real layers and cells, before any work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mint_cli.errors import SettingError, owned
from mint_cli.network import checkpoint
from mint_cli.network.layers import weighted_layers
from mint_cli.protocol import Cells, Layer
from mint_cli.signatures import nearest

if TYPE_CHECKING:
    from mint_cli.experiment import Experiment

SHARED = ("skip", "granularity")  # settings of the experiment that plug-ins refuse
BY_LAYER = ("caps", "child_groups", "parent_groups")  # settings that may be a mapping from layers


def check(e: Experiment) -> None:
    """Raise SettingError or DataError for whatever would fail later: layers, groups, samples,
    quotas.
    """
    labels = e.data.splits.train.labels
    if e.batch_norm_images and not 2 <= e.batch_norm_images <= len(labels):
        bound = f"must be 0 or lie between 2 and {len(labels)}, the training images"
        raise SettingError("batch_norm_images", bound, e.batch_norm_images)
    model = e.network.build()
    check_batches(e, model)
    if e.checkpoint:
        check_new(e, model)
    layers = e.sites.layers(e.network)
    for name in ("granularity", "criterion", "allocation", "compensation"):
        with of(name):
            check_layers(getattr(e, name), list(weighted_layers(model)))
    with of("granularity"):
        cells = e.sites.cells(e.network)
    check_allocation(e, cells)
    for name in ("criterion", "compensation") if e.scored else ("compensation",):
        check_plugin(name, getattr(e, name), layers, cells, labels)


@contextmanager
def of(plugin: str) -> Iterator[None]:
    """Put the plug-in's name before a setting of its own, and nothing before one of the
    experiment.
    """
    try:
        yield
    except SettingError as error:
        if error.setting not in SHARED:
            error.setting = f"{plugin}.{error.setting}"
        raise


def check_plugin(
    name: str,
    plugin: partial,
    layers: dict[str, Layer],
    cells: dict[str, Cells],
    labels: Tensor,
) -> None:
    """SettingError for whatever a criterion or compensation refuses."""
    with of(name):
        check_batch_size(plugin)
        own = getattr(plugin.func, "check", None)
        if own:
            own(layers, cells, labels, **plugin.keywords)


def check_batch_size(plugin: partial) -> None:
    """SettingError for batches of nothing."""
    if plugin.keywords.get("batch_size", 1) < 1:
        raise SettingError("batch_size", "must be at least 1", plugin.keywords["batch_size"])


def check_layers(plugin: partial, layers: list[str]) -> None:
    """SettingError if a setting by layer names one that the network does not have; skipped layers
    may be named.
    """
    for name in BY_LAYER:
        setting = plugin.keywords.get(name)
        for layer in setting if isinstance(setting, dict) else ():
            if layer not in layers and (layer != "default" or name == "caps"):
                hint = nearest(str(layer), layers)
                raise SettingError(
                    name, f"names layer {layer}, which the network does not have", hint=hint
                )


def check_batches(e: Experiment, model: nn.Module) -> None:
    """SettingError for batches of one where a batch norm sees one number a channel."""
    if not any(isinstance(m, nn.BatchNorm1d) for m in model.modules()):
        return
    count = len(e.data.splits.train)
    for name, recipe in (("train", e.training), ("retrain", e.retrain)):
        if recipe and recipe.epochs and min(recipe.batch_size, count) < 2:
            with owned(name):
                bound = "and the training images must be at least 2 for this network's batch norm"
                raise SettingError("batch_size", bound, min(recipe.batch_size, count))


def check_new(e: Experiment, model: nn.Module) -> None:
    """SettingError for modules that are not there to start anew, or that nothing would train."""
    checkpoint.check_new(model, e.checkpoint.new)
    if e.checkpoint.new and not e.train.epochs:
        with owned("train"):
            bound = "must be at least 1 to train what checkpoint_new starts anew"
            raise SettingError("epochs", bound, e.train.epochs)


def check_allocation(e: Experiment, cells: dict[str, Cells]) -> None:
    """SettingError for a sparsity that the allocation cannot reach in some round."""
    scores = {site: torch.zeros(own.shape, dtype=torch.float64) for site, own in cells.items()}
    ledger = e.sites.ledger(e.network)
    for budget in e.budgets:
        budget.allocate(e.allocation, scores, cells, ledger)
