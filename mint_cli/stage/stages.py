"""The stages: settings and artifacts in, one artifact (tensors and metrics) out."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.network import checkpoint, group, signal
from mint_cli.data import images as im
from mint_cli.network.layers import apply_masks, inference, normalise_inputs, prunable_layers, reestimate_batch_norm, weight_counts
from mint_cli.errors import DataError
from mint_cli.protocol import Estimate, Images, Masks, Splits, Tensors
from mint_cli.store import Artifact, Context
from mint_cli.training.loop import Recipe, evaluate, fit

log = logging.getLogger(__name__)

Result = tuple[Tensors, dict[str, Any]]
NOISE = 0.3  # agreement of two halves below which a ranking is mostly noise


@dataclass(frozen=True)
class Data:
    """A data set plug-in and the folder its files are in; only the plug-in is part of a key."""

    dataset: partial
    root: Path = field(metadata={"identity": False})

    @cached_property
    def splits(self) -> Splits:
        return self.dataset(self.root)


@dataclass(frozen=True)
class Weights:
    """A checkpoint to start from; its content, not its path, is part of a key."""

    path: Path = field(metadata={"identity": False})
    sha256: str

    @classmethod
    def of(cls, path: str) -> Weights:
        return cls(Path(path), hashlib.sha256(Path(path).read_bytes()).hexdigest())


@dataclass(frozen=True)
class Network:
    """How to build the network: the model plug-in for the shape and classes of the data, initialised from the seed."""

    data: Data
    model: partial
    seed: int

    def build(self, state: Tensors | None = None) -> nn.Module:
        """The network in evaluation mode, normalisation of its inputs included, with the tensors of ``state`` if given."""
        splits = self.data.splits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng(stream(self.seed, "initialise")).integers(2**62)))
            model = self.model(tuple(splits.train.pixels.shape[1:]), splits.classes)
        normalise_inputs(model, splits.mean, splits.std)
        if state is not None:
            model.load_state_dict(state)
        return model.eval()


def stream(seed: int, name: str) -> list[int]:
    """Seed of a stage's own random stream, from the experiment's seed and the stage's name."""
    return [seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")]


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """Tensors with ``prefix/`` before their names."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


def part(prefix: str, artifact: Artifact) -> Tensors:
    """The tensors of an artifact below a prefix, without it."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in artifact.tensors.items() if name.startswith(f"{prefix}/")}


def measured(model: nn.Module, splits: Splits, context: Context) -> dict[str, Any]:
    """Accuracy and loss on test (once, at the end of a stage) and on validation."""
    model = model.to(context.device, memory_format=torch.channels_last)
    found = {name: evaluate(model, im.to(getattr(splits, name), context.device)) for name in ("test", "validation")}
    for name, metrics in found.items():
        if metrics and not math.isfinite(metrics["loss"]):
            raise DataError(f"the loss on the {name} images is {metrics['loss']}: the network's weights or outputs have overflowed")
    return found


def train(network: Network, weights: Weights | None, recipe: Recipe | None, context: Context) -> Result:
    """The dense network: trained by the recipe, or taken from a checkpoint."""
    splits, model, losses = network.data.splits, network.build(), []
    if weights:
        checkpoint.fit_to(model, checkpoint.load(weights.path), str(weights.path))
    else:
        losses = fit(model, splits.train, recipe, stream(network.seed, "train"), context)
    return prefixed("state", model.state_dict()), measured(model, splits, context) | {"training_loss": losses}


def score(network: Network, skip: list[str], criterion: partial, seed: int, dense: Artifact, context: Context) -> Result:
    """Scores of every prunable layer by the criterion, and how much of them is signal."""
    model = network.build(part("state", dense)).to(context.device, memory_format=torch.channels_last)
    rng = np.random.default_rng(stream(seed, "score"))
    train_images = im.to(network.data.splits.train, context.device)
    estimates = criterion(model, prunable_layers(model, skip), train_images, rng)
    bad = [name for name, estimate in estimates.items() if not estimate.score.isfinite().all()]
    if bad:
        raise DataError(f"the criterion gave a score that is not finite in layer {bad[0]}")
    report = {name: signal.report(estimate) for name, estimate in estimates.items()}
    warn_of_noise(report)
    return {name: cells(estimate) for name, estimate in estimates.items()}, {"signal": report}


def cells(estimate: Estimate) -> Tensor:
    """The score of every cell, leading axes of the weight: blocks are spread over their connections."""
    if estimate.child_groups is None:
        return estimate.score.double().cpu()
    return group.expand(estimate.score.double().cpu(), estimate.child_groups, estimate.parent_groups)


def warn_of_noise(report: dict[str, dict[str, float | None]]) -> None:
    """One warning line when two halves of the samples or splits hardly agree."""
    poor = [name for name, r in report.items() if r["agreement"] is not None and r["agreement"] < NOISE]
    if poor:
        log.warning("the ranking is mostly noise: two halves agree below %.1f (Spearman) in %s", NOISE, ", ".join(poor))


def prune(
    network: Network,
    allocation: partial,
    compensation: partial,
    batch_norm_images: int,
    seed: int,
    trained: Artifact,
    scores: Artifact,
    context: Context,
) -> Result:
    """Masks by the allocation, the kept weights as compensation leaves them, weights outside the masks exactly 0.0."""
    splits, model = network.data.splits, network.build(part("state", trained))
    counts, gone = weight_counts(model), part("mask", trained)
    ordered = {name: scores.tensors[name] for name in counts if name in scores.tensors}  # ties go in the network's order
    ranked = {name: torch.where(gone[name], s, -torch.inf) if gone else s for name, s in ordered.items()}
    masks = allocation(ranked, counts)
    model = model.to(context.device, memory_format=torch.channels_last)
    rng = np.random.default_rng(stream(seed, "prune"))
    train_images = im.to(splits.train, context.device)
    masks, changed = compensation(model, masks, train_images, rng)
    model.load_state_dict(model.state_dict() | changed)
    apply_masks(model, masks)
    if batch_norm_images:
        reestimate_batch_norm(model, train_images, batch_norm_images, rng)
    warn_of_collapse(model, train_images)
    tensors = prefixed("state", model.state_dict()) | prefixed("mask", masks)
    return tensors, measured(model, splits, context) | {"sparsity": sparsity(masks, counts), "weights": sizes(masks, counts)}


def warn_of_collapse(model: nn.Module, images: Images) -> None:
    """One warning line when no path from the images to the logits is left: seen from the logits, which are then all the same."""
    with inference(model):
        logits = model(im.plain(images, torch.arange(min(100, len(images))))).float()
    if (logits - logits[0]).abs().max() <= 1e-5 * logits.abs().max():
        log.warning("pruning has cut every path to the output, and retraining cannot mend it; lower pruner.sparsity or pruner.cap")


def removed(masks: Masks, counts: dict[str, int]) -> dict[str, int]:
    """Weights that each layer's mask removes."""
    return {name: int((~mask).sum()) * (counts[name] // mask.numel()) for name, mask in masks.items()}


def sparsity(masks: Masks, counts: dict[str, int]) -> dict[str, Any]:
    """Fraction removed per layer, of the prunable weights (total) and of all convolution and linear weights."""
    gone = removed(masks, counts)
    return {
        "total": sum(gone.values()) / sum(counts[name] for name in masks),
        "of_all_weights": sum(gone.values()) / sum(counts.values()),
        "layers": {name: gone[name] / counts[name] for name in masks},
    }


def sizes(masks: Masks, counts: dict[str, int]) -> dict[str, int]:
    """The denominators by name, and the weights kept: numbers of convolution and linear weights."""
    everything = sum(counts.values())
    return {"prunable": sum(counts[name] for name in masks), "all": everything, "kept": everything - sum(removed(masks, counts).values())}


def retrain(network: Network, recipe: Recipe, seed: int, pruned: Artifact, context: Context) -> Result:
    """The pruned network trained on by the recipe; its masks hold exactly.  No epochs change and measure nothing."""
    if not recipe.epochs:
        return pruned.tensors, {name: pruned.metrics[name] for name in ("test", "validation")} | {"training_loss": []}
    splits, masks = network.data.splits, part("mask", pruned)
    model = network.build(part("state", pruned))
    losses = fit(model, splits.train, recipe, stream(seed, "retrain"), context, masks)
    return prefixed("state", model.state_dict()) | prefixed("mask", masks), measured(model, splits, context) | {"training_loss": losses}
