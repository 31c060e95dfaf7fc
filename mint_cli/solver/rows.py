"""Calibration: training images streamed through the dense and the pruned network, one layer's least-squares problem at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.solver import equations as ls
from mint_cli.network.layers import Passage, device_of, inference, jacobians, norm_scale, spread, weighted_layers
from mint_cli.errors import SettingError
from mint_cli.protocol import Images, Shapes, Tensors
from mint_cli.network.replay import Walk

FLAT = 1e-3  # factor of a batch norm below which a channel does not reach its shortcut
CLIP = 20.0  # most that one position counts, in multiples of the mean: sensitivities have heavy tails


@dataclass(frozen=True)
class Calibration:
    """Which images a refit looks at, and how.

    ``positions`` of every feature map are drawn at random and become rows of the least-squares problems; ``measured`` is the
    share of a row's weight that is its measured sensitivity (see ``survey``), the rest is uniform; ``joint`` the share of the
    logits in the metric that output errors are measured in, the rest is every output alone; ``ridge`` is in units of the mean
    variance of a layer's inputs.  Seeded: every layer sees the same crops.
    """

    images: Images
    count: int
    positions: int
    measured: float
    joint: float
    ridge: float
    batch_size: int
    seed: int

    def batches(self) -> Iterator[Tensor]:
        """Pixels after the training transform, (batch size, c, h, w): the statistics of any other transform are biased."""
        rng = np.random.default_rng(self.seed)
        index = torch.from_numpy(rng.choice(len(self.images), self.count, replace=False))
        for chunk in index.split(self.batch_size):
            yield im.augmented(self.images, chunk, rng)


def check(shapes: Shapes, labels: Tensor, /, *, calibration_images: int, **settings) -> None:
    """SettingError unless there are so many training images, shares are shares, and every layer has rows and a ridge."""
    for name in ("measured", "joint"):
        if not 0 <= settings[name] < 1:
            raise SettingError(f"calibration setting {name} must lie in [0, 1), not {settings[name]}")
    if settings["positions"] < 1:
        raise SettingError(f"pruner.calibration_positions must be at least 1, not {settings['positions']}")
    if not settings["ridge"] > 0:
        raise SettingError(f"calibration setting ridge must be above 0, not {settings['ridge']}: inputs that never vary have no weights")
    if not 1 <= calibration_images <= len(labels):
        raise SettingError(f"pruner.calibration_images must lie between 1 and {len(labels)}, the training images, not {calibration_images}")


def start(
    images: Images, rng: np.random.Generator, count: int, positions: int, measured: float, joint: float, ridge: float, batch_size: int
) -> Calibration:
    """The calibration of one criterion or compensation, its settings checked."""
    check({}, images.labels, calibration_images=count, positions=positions, measured=measured, joint=joint, ridge=ridge)
    return Calibration(images, count, positions, measured, joint, ridge, batch_size, int(rng.integers(2**31)))


@dataclass(frozen=True)
class Problem:
    """A layer's least-squares problem, the metric of its output errors, and where its bias goes (a bias, a running mean, or nowhere)."""

    module: nn.Module
    equations: ls.Normal
    metric: Tensor  # (out, out)
    shift: str | None


@dataclass
class Survey:
    """One layer's rows, batch by batch, and how the logits feel them."""

    at: list[Tensor]  # each int16 (n, positions): the positions drawn
    weights: list[Tensor]  # each float16 (n, positions), mean about 1
    felt: Tensor  # (out, out): products of the Jacobians of two outputs, summed over positions, mean over images: logits² per output²

    @property
    def rows(self) -> int:
        return sum(at.numel() for at in self.at)


def survey(model: nn.Module, layers: list[str], calibration: Calibration) -> dict[str, Survey]:
    """Draw the rows of every layer, weigh them by the squared Jacobian of the logits, and sum up how the logits feel two outputs at once.

    One pass over the images.  Kept of it: at most six bytes a row (eight where maps have more than 32,768 positions).
    """
    generator = torch.Generator().manual_seed(calibration.seed)
    surveys = {name: Survey([], [], torch.zeros(())) for name in layers}
    for x in calibration.batches():
        for name, felt in jacobians(model, layers, x.to(device_of(model)), generator).items():
            surveyed, size = surveys[name], felt.shape[2]
            at = torch.rand(len(felt), size, generator=generator).argsort(1)[:, : calibration.positions].to(felt.device)
            surveyed.at.append(at.short() if size <= 2**15 else at.int())
            surveyed.weights.append(felt.square().sum(1).gather(1, at))
            flat = felt.transpose(1, 2).flatten(0, 1)
            surveyed.felt = surveyed.felt.to(felt.device) + (flat.T @ flat).double() / calibration.count
    for surveyed in surveys.values():
        mean = torch.cat(surveyed.weights).mean().clamp_min(torch.finfo(torch.float32).tiny)
        surveyed.weights = [mixed(felt / mean, calibration.measured).half() for felt in surveyed.weights]
    return surveys


def metric(surveyed: Survey, joint: float) -> Tensor:
    """Weights of products of output errors, (out, out), mean diagonal 1: how the logits feel both, and ``1 − joint`` of each alone."""
    felt = surveyed.felt / surveyed.felt.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    return joint * felt + (1 - joint) * torch.eye(len(felt), dtype=felt.dtype, device=felt.device)


def mixed(relative: Tensor, measured: float) -> Tensor:
    """Weights of rows whose measured sensitivity, relative to the mean, is ``relative``."""
    return 1 - measured + measured * relative.clamp_max(CLIP)


def problem(dense: Walk, pruned: Walk, layer: str, surveyed: Survey, calibration: Calibration) -> Problem:
    """The layer's normal equations: inputs as ``pruned`` delivers them, targets as ``dense`` has them.

    Where the output is added to a shortcut, the target also makes up for what the shortcut has lost already.
    """
    module = weighted_layers(dense.model)[layer]
    moments = ls.empty(module.weight[0].numel(), len(module.weight), module.weight.device)
    batches = len(surveyed.at)
    with inference(dense.model), inference(pruned.model):
        for i, (x, at, weights) in enumerate(zip(calibration.batches(), surveyed.at, surveyed.weights, strict=True)):
            x = x.to(module.weight.device)
            wanted = dense.passage(layer, i, batches, x)
            given = pruned.passage(layer, i, batches, x) if pruned is not dense else wanted
            target = wanted.leaving + shortfall(dense.model, wanted, given)
            ls.add(moments, *rows(module, given.entering, target, at.long()), weights.float().flatten())
    shift = f"{layer}.bias" if module.bias is not None else wanted.norm and f"{wanted.norm}.running_mean"
    return Problem(module, ls.normal(moments, calibration.ridge, centred=shift is not None), metric(surveyed, calibration.joint), shift)


def solve(found: Problem, support: Tensor) -> Tensor:
    """Best weights (out, k) on ``support``: every output by itself, then, where the metric joins them, all together."""
    weights = ls.solve(found.equations, support)
    joined = (found.metric - torch.diag(found.metric.diagonal())).any()
    return ls.solve_jointly(found.equations, found.metric, support, weights) if joined else weights


def shortfall(model: nn.Module, wanted: Passage, given: Passage) -> Tensor | float:
    """What the shortcut in ``wanted`` has and that in ``given`` lacks, in units of the layer's output before its batch norm."""
    if wanted.added is None or wanted is given:
        return 0.0
    scale = norm_scale(model, wanted.norm)
    missing = wanted.added - given.added
    if isinstance(scale, float):
        return missing
    scale = scale.view(-1, *[1] * (missing.ndim - 2))
    return torch.where(scale.abs() > FLAT, missing / scale, 0.0)


def solution(model: nn.Module, layer: str, found: Problem, weights: Tensor) -> Tensors:
    """Entries of the dense network's state that the solved ``weights`` (out, k) of a layer, and the bias that goes with them, change."""
    weight = found.module.weight
    changed = {f"{layer}.weight": weights.view(weight.shape).to(weight)}
    if found.shift:
        bias = found.equations.targets - weights @ found.equations.inputs
        if found.shift.endswith("running_mean"):  # a batch norm subtracts its mean where a bias would be added
            bias = model.state_dict()[found.shift] - bias
        changed[found.shift] = bias.to(weight)
    return changed


def support(mask: Tensor, module: nn.Module) -> Tensor:
    """A layer's mask (leading axes of the weight) over the columns of its flat weight, (out, k)."""
    return spread(mask.to(module.weight.device), module.weight.ndim).expand_as(module.weight).flatten(1)


def check_all_inputs(shapes: Shapes, calibration_images: int, positions: int) -> None:
    """SettingError if a layer has fewer rows than inputs: for choices that start from all of them."""
    rows = {layer: calibration_images * min(positions, size) for layer, (*_, size) in shapes.items()}
    check_rows(calibration_images, rows, {layer: entering * kernel for layer, (_, entering, kernel, _) in shapes.items()})


def check_supports(surveys: dict[str, Survey], supports: dict[str, Tensor], calibration: Calibration) -> None:
    """SettingError if a layer has fewer rows than an output has inputs on its support."""
    unknowns = {layer: int(kept.sum(1).max()) for layer, kept in supports.items()}
    check_rows(calibration.count, {layer: surveys[layer].rows for layer in supports}, unknowns)


def check_rows(images: int, rows: dict[str, int], unknowns: dict[str, int]) -> None:
    """SettingError if a layer has fewer rows than the unknowns of its solve; names the layer that wants most."""
    layer = max(rows, key=lambda name: unknowns[name] / rows[name], default=None)
    if layer and rows[layer] < unknowns[layer]:
        raise SettingError(
            f"pruner.calibration_images must be at least {-(-unknowns[layer] * images // rows[layer])}, not {images}: layer {layer} "
            f"is solved for {unknowns[layer]} unknowns an output, but has only {rows[layer]} rows (images × positions)"
        )


def rows(module: nn.Module, entering: Tensor, target: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (n · positions, in · kernel), columns as in the flat weight, and targets (n · positions, out) at the positions drawn."""
    if isinstance(module, nn.Linear):
        return entering, target
    unfolded = nn.functional.unfold(entering, module.kernel_size, module.dilation, module.padding, module.stride)
    pairs = (t.gather(2, at[:, None].expand(-1, t.shape[1], -1)) for t in (unfolded, target.flatten(2)))
    return tuple(t.transpose(1, 2).flatten(0, 1) for t in pairs)
