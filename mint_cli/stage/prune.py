"""The pruned network."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.errors import DataError
from mint_cli.network import cells as ce
from mint_cli.network.layers import apply_masks, inference, spread, weight_counts
from mint_cli.network.observe import reestimate_batch_norm
from mint_cli.protocol import Cells, Images, Kept, Masks, Tensors
from mint_cli.solver.progress import kept_by
from mint_cli.solver.rows import solved_layers
from mint_cli.stage.budget import Budget, Ledger
from mint_cli.stage.common import Network, Result, Sites, part, prefixed, stream
from mint_cli.store import Artifact, Context

log = logging.getLogger(__name__)


def prune(
    network: Network,
    sites: Sites,
    budget: Budget,
    allocation: partial,
    compensation: partial,
    batch_norm_images: int,
    seed: int,
    round: int,
    trained: Artifact,
    scores: Artifact | None,
    context: Context,
) -> Result:
    """Masks by the allocation, the kept weights as compensation leaves them, removed weights
    exactly 0.0.
    """
    model, former = network.build(part("state", trained)), part("mask", trained)
    counts, parameters = weight_counts(model), dict(model.named_parameters())
    cells, ledger = sites.cells(network), sites.ledger(network)
    gone = ce.gone(cells, former, counts)
    ranks = (
        scores.tensors if scores else {site: torch.zeros(own.shape) for site, own in cells.items()}
    )
    if scores and scores.metrics["additive"]:
        ranks = budget.by_unit(ranks, cells, ledger)
    ordered = {site: torch.where(gone[site], -torch.inf, ranks[site].double()) for site in cells}
    kept = budget.allocate(allocation, ordered, cells, ledger)
    check_kept(allocation, cells, kept)
    kept = {site: own & ~gone[site] for site, own in kept.items()}
    model = model.to(context.device, memory_format=torch.channels_last)
    rng = np.random.default_rng(stream(seed, "prune", round))
    train_images = im.to(network.data.splits.train, context.device)
    with kept_by(context.scratch.once, len(solved_layers(model, cells))):
        kept, changed = compensation(model, cells, kept, gone, train_images, rng)
    model.load_state_dict(model.state_dict() | changed)
    masks = {name: mask for name, mask in ce.masks_of(cells, kept).items() if name in parameters}
    masks |= {name: ce.both(masks.get(name), mask) for name, mask in former.items()}
    if not any(
        ce.is_coupled(own) for own in cells.values()
    ):  # outputs of channels go after they are solved
        check_changed(compensation, masks, changed)
    apply_masks(model, masks)
    if batch_norm_images:
        reestimate_batch_norm(model, train_images, batch_norm_images, rng)
    warn_of_collapse(model, train_images)
    tensors = prefixed("state", model.state_dict()) | prefixed("mask", masks)
    return tensors, counted(model, cells, masks, counts) | by_name(cells, kept, ledger)


def by_name(cells: dict[str, Cells], kept: Kept, ledger: Ledger) -> dict[str, Any]:
    """Under ``units`` which cells stay and go, and what cannot go, where cells have names.

    Also the parameters and multiply-accumulates of the network without them.
    """
    named = {site: own for site, own in cells.items() if ce.is_unit(own)}
    if not named:
        return {}

    def of(stays: bool) -> list[str]:
        every = [zip(own.names, kept[site].tolist(), strict=True) for site, own in named.items()]
        return [name for own in every for name, stay in own if stay == stays]

    left = {
        of: ledger.whole(named, of) - ledger.removed(named, kept, of)
        for of in ("parameters", "macs")
    }
    fixed = {name: why for own in named.values() for name, why in own.fixed.items()}
    return {"units": {"kept": of(True), "gone": of(False), "fixed": fixed, **left}}


def check_kept(allocation: partial, cells: dict[str, Cells], kept: Kept) -> None:
    """DataError unless the allocation has said of every cell whether it stays."""
    shapes = {site: tuple(own.shape) for site, own in cells.items()}
    given = {site: tuple(own.shape) for site, own in kept.items()}
    if shapes != given or any(own.dtype != torch.bool for own in kept.values()):
        raise DataError(
            f"allocation {allocation.func.__name__} must give one bool a cell, {shapes}, not "
            f"{given}"
        )


def check_changed(compensation: partial, masks: Masks, changed: Tensors) -> None:
    """DataError if the compensation counts on weights that are gone: without them it is another
    network.
    """
    for name in set(masks) & set(changed):
        if changed[name].cpu()[~mask_of(masks[name], changed[name])].any():
            raise DataError(
                f"compensation {compensation.func.__name__} gave values to removed weights of "
                f"{name}; "
                "a checkpoint whose zeros cut through cells goes with granularity weights"
            )


def counted(
    model: nn.Module, cells: dict[str, Cells], masks: Masks, counts: dict[str, int]
) -> dict[str, Any]:
    """Sparsity and numbers of weights, counted by the masks and checked on the network itself.

    ``zeros`` is the share of all its weights that are 0.0.  Raises DataError where a removed weight
    still has a value.
    """
    parameters = {name: p.detach().cpu() for name, p in model.named_parameters() if name in counts}
    removed = {
        name: int((~mask_of(masks[name], p)).sum()) if name in masks else 0
        for name, p in parameters.items()
    }
    for name, p in parameters.items():
        if name in masks and p[~mask_of(masks[name], p)].any():
            raise DataError(
                f"removed weights of {name} have values: the network is not as sparse as its "
                "masks say"
            )
    everything, zeros = sum(counts.values()), sum(int((p == 0).sum()) for p in parameters.values())
    names = {site: [n for n in own.labels if n in counts] for site, own in cells.items()}
    prunable = {name for own in names.values() for name in own}
    layers = {
        site: sum(removed[n] for n in own) / sum(counts[n] for n in own)
        for site, own in names.items()
    }
    whole, gone = sum(counts[n] for n in prunable), sum(removed.values())
    return {
        "sparsity": {
            "total": sum(removed[n] for n in prunable) / whole,
            "of_all_weights": gone / everything,
            "zeros": zeros / everything,
            "layers": layers,
        },
        "weights": {"prunable": whole, "all": everything, "kept": everything - gone},
    }


def mask_of(mask: Tensor, parameter: Tensor) -> Tensor:
    """A mask of leading axes in the parameter's own shape."""
    return spread(mask, parameter.ndim).expand_as(parameter)


def warn_of_collapse(model: nn.Module, images: Images) -> None:
    """One warning line when no path from the images to the logits is left: seen from the logits,
    which are then all the same.
    """
    with inference(model):
        logits = model(im.plain(images, torch.arange(min(100, len(images))))).float()
    if (logits - logits[0]).abs().max() <= 1e-5 * logits.abs().max():
        log.warning(
            "pruning has cut every path to the output, and retraining cannot mend it; "
            "lower the sparsity, or the cap of a layer"
        )
