"""Calibration: training images streamed through the dense and the pruned network, one layer's
least-squares problem at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli.data import images as im
from mint_cli.errors import SettingError
from mint_cli.network.layers import device_of, inference, refuse, spread, weighted_layers
from mint_cli.network.observe import Passage, jacobians, norm_scale, outputs_of, patches_of
from mint_cli.network.replay import Walk
from mint_cli.protocol import Cells, Images, Layer, Tensors
from mint_cli.signatures import check_types
from mint_cli.solver import drawn
from mint_cli.solver import equations as eq

FLAT = 1e-3  # factor of a batch norm below which a channel does not reach its shortcut
# most that one position counts, in multiples of the mean: sensitivities have heavy tails
CLIP = 20.0


@dataclass(frozen=True)
class Calibration:
    """Which images a refit looks at, and how; mounted once, passed whole.

    ``images`` of the training set, after the training transform; ``positions`` of every feature map
    of these are drawn at random and become rows of the least-squares problems; ``measured`` is the
    share of a row's weight that is its measured sensitivity (see ``survey``), the rest is uniform;
    ``joint`` the share of the logits in the metric that output errors are measured in, the rest is
    every output alone; ``ridge`` is in units of the mean variance of a layer's inputs.
    """

    images: int
    positions: int
    measured: float
    joint: float
    ridge: float
    batch_size: int

    def __post_init__(self) -> None:
        check_types(Calibration, vars(self))
        for name in ("measured", "joint"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(name, "must lie in [0, 1)", getattr(self, name))
        for name in ("images", "positions", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingError(name, "must be at least 1", getattr(self, name))
        if not 0 < self.ridge < float("inf"):
            reason = "inputs that never vary have no weights"
            raise SettingError("ridge", "must be above 0 and finite", self.ridge, reason)


@dataclass(frozen=True)
class Stream:
    """The calibration images of one criterion or compensation.  Seeded: every layer sees the same
    crops.
    """

    images: Images
    calibration: Calibration
    seed: int

    def batches(self) -> Iterator[Tensor]:
        """Pixels after the training transform, (batch size, c, h, w): the statistics of any other
        transform are biased.
        """
        rng = np.random.default_rng(self.seed)
        index = torch.from_numpy(
            rng.choice(len(self.images), self.calibration.images, replace=False)
        )
        return im.augmentations(self.images, index.split(self.calibration.batch_size), rng)


def stream(images: Images, calibration: Calibration, rng: np.random.Generator) -> Stream:
    """The stream that a random generator starts."""
    check_images(calibration, len(images))
    return Stream(images, calibration, int(rng.integers(2**31)))


def check_images(calibration: Calibration, count: int) -> None:
    """SettingError for more calibration images than there are."""
    if calibration.images > count:
        bound = f"must lie between 1 and {count}, the training images"
        raise SettingError("calibration.images", bound, calibration.images)


def solved_layers(network: nn.Module | dict[str, Layer], cells: dict[str, Cells]) -> list[str]:
    """Layers that lose inputs with the cells, in the network's order: those that are judged and
    solved.
    """
    names = weighted_layers(network) if isinstance(network, nn.Module) else network
    read = {
        name
        for own in cells.values()
        for name, labels in (*own.labels.items(), *own.reads.items())
        if labels.ndim > 1
    }
    return [name for name in names if f"{name}.weight" in read]


def check_solvable(layers: dict[str, Layer], names: Collection[str]) -> None:
    """SettingError that names the layers that cannot be solved by what enters and leaves them."""
    refuse("skip", {name: layers[name].blind for name in names}, "cannot be re-solved")


@dataclass(frozen=True)
class Problem:
    """A layer's least-squares problem, the metric of its output errors, and where its bias goes.

    ``shift`` names a bias, a running mean, or nothing.
    """

    module: nn.Module
    equations: eq.Normal
    metric: Tensor  # (out, out)
    shift: str | None


@dataclass
class Survey:
    """One layer's rows, batch by batch, and how the logits feel them."""

    at: list[Tensor]  # each int16 (n, positions): the positions drawn
    weights: list[Tensor]  # each float16 (n, positions), mean about 1
    # (out, out): products of two outputs' Jacobians, summed over positions, mean over images:
    # logits² per output²
    sensitivity: Tensor

    @property
    def rows(self) -> int:
        return sum(at.numel() for at in self.at)


def survey(model: nn.Module, layers: list[str], source: Stream) -> dict[str, Survey]:
    """Draw the rows of every layer, weigh them by the squared Jacobian of the logits, sum up how
    the logits feel outputs in pairs.

    One pass over the images.  Kept of it: at most six bytes a row (eight where maps have more than
    32,768 positions).  Layers come in the order in which a pass calls them.
    """
    generator = torch.Generator().manual_seed(source.seed)
    surveys: dict[str, Survey] = {}
    for x in source.batches():
        for name, slopes in jacobians(model, layers, x.to(device_of(model)), generator).items():
            surveyed = surveys.setdefault(name, Survey([], [], torch.zeros(())))
            size = slopes.shape[2]
            drawn = torch.rand(len(slopes), size, generator=generator).argsort(1)
            at = drawn[:, : source.calibration.positions].to(slopes.device)
            surveyed.at.append(at.short() if size <= 2**15 else at.int())
            surveyed.weights.append(slopes.square().sum(1).gather(1, at))
            flat = slopes.transpose(1, 2).flatten(0, 1)
            products = (flat.T @ flat).double() / source.calibration.images
            surveyed.sensitivity = surveyed.sensitivity.to(slopes.device) + products
    least = torch.finfo(torch.float32).tiny
    for surveyed in surveys.values():
        mean = torch.cat(surveyed.weights).mean().clamp_min(least)
        surveyed.weights = [
            mixed(w / mean, source.calibration.measured).half() for w in surveyed.weights
        ]
    return surveys


def metric(surveyed: Survey, joint: float) -> Tensor:
    """Weights of products of output errors, (out, out), mean diagonal 1: how the logits feel both,
    and ``1 − joint`` of each alone.
    """
    mean = surveyed.sensitivity.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    pairs = surveyed.sensitivity / mean
    return joint * pairs + (1 - joint) * torch.eye(
        len(pairs), dtype=pairs.dtype, device=pairs.device
    )


def mixed(relative: Tensor, measured: float) -> Tensor:
    """Weights of rows whose measured sensitivity, relative to the mean, is ``relative``."""
    return 1 - measured + measured * relative.clamp_max(CLIP)


def problem(dense: Walk, given: Walk, layer: str, surveyed: Survey, source: Stream) -> Problem:
    """The layer's normal equations: inputs as ``given`` delivers them, targets as ``dense`` has
    them.

    Where the output is added to a shortcut, the target also makes up for what the shortcut has lost
    already; with ``given`` the dense walk itself there is nothing to make up for.
    """
    module = weighted_layers(dense.model)[layer]
    moments = eq.empty(module.weight[0].numel(), len(module.weight), module.weight.device)
    batches = len(surveyed.at)
    parts = zip(source.batches(), surveyed.at, surveyed.weights, strict=True)
    with inference(dense.model), inference(given.model):
        for i, (x, at, weights) in enumerate(parts):
            x = x.to(module.weight.device)
            wanted = dense.passage(layer, i, batches, x)
            stand_in = (
                wanted.leaving if drawn.readable(module) or isinstance(module, nn.Linear) else None
            )
            delivered = (
                given.passage(layer, i, batches, x, stand_in) if given is not dense else wanted
            )
            target = wanted.leaving + shortfall(dense.model, wanted, delivered)
            u, t = rows(module, delivered.entering, target, at.long())
            eq.add(moments, u, t, weights.float().flatten())
    if drawn.readable(module):
        moments = eq.reordered(moments, drawn.flat_order(module).to(moments.gram.device))
    shift = (
        f"{layer}.bias"
        if module.bias is not None
        else wanted.norm and f"{wanted.norm}.running_mean"
    )
    calibration = source.calibration
    equations = eq.normal(moments, calibration.ridge, centred=shift is not None)
    return Problem(module, equations, metric(surveyed, calibration.joint), shift)


def solve(found: Problem, support: Tensor) -> Tensor:
    """Best weights (out, k) on ``support``: every output by itself, then, where the metric joins
    them, all together.
    """
    weights = eq.solve(found.equations, support)
    joined = (found.metric - torch.diag(found.metric.diagonal())).any()
    return eq.solve_jointly(found.equations, found.metric, support, weights) if joined else weights


def solve_rectangle(found: Problem, support: Tensor) -> Tensor:
    """Best weights (out, k) on a support of whole outputs and inputs: there every metric has the
    same solution.

    Outputs that are gone take no part: what reads them makes up for them.
    """
    return eq.solve(found.equations, support)


def shortfall(model: nn.Module, wanted: Passage, given: Passage) -> Tensor | float:
    """What the shortcut in ``wanted`` has and that in ``given`` lacks, in units of the layer's
    output before its batch norm.
    """
    if wanted.added is None or wanted is given:
        return 0.0
    scale = norm_scale(model, wanted.norm)
    missing = wanted.added - given.added
    if isinstance(scale, float):
        return missing
    scale = scale.view(-1, *[1] * (missing.ndim - 2))
    return torch.where(scale.abs() > FLAT, missing / scale, 0.0)


def solution(model: nn.Module, layer: str, found: Problem, weights: Tensor) -> Tensors:
    """Entries of the dense network's state that the solved ``weights`` (out, k) of a layer, and the
    bias that goes with them, change.
    """
    weight = found.module.weight
    changed = {f"{layer}.weight": weights.view(weight.shape).to(weight)}
    if found.shift:
        bias = found.equations.targets - weights @ found.equations.inputs
        if found.shift.endswith(
            "running_mean"
        ):  # a batch norm subtracts its mean where a bias would be added
            bias = model.state_dict()[found.shift] - bias
        changed[found.shift] = bias.to(weight)
    return changed


def support(mask: Tensor, module: nn.Module) -> Tensor:
    """A weight's mask (leading axes) over the columns of its flat form, (out, k)."""
    weight = module.weight
    return spread(mask.to(weight.device), weight.ndim).expand_as(weight).flatten(1)


def check_all_inputs(
    layers: dict[str, Layer], names: Collection[str], calibration: Calibration
) -> None:
    """SettingError if a layer has fewer rows than inputs: for choices that start from all
    of them.
    """
    held = {n: calibration.images * min(calibration.positions, layers[n].positions) for n in names}
    unknowns = {n: torch.Size(layers[n].shape[1:]).numel() for n in names}
    check_rows(calibration.images, held, unknowns)


def check_supports(surveys: dict[str, Survey], supports: dict[str, Tensor], source: Stream) -> None:
    """SettingError if a layer has fewer rows than an output has inputs on its support."""
    unknowns = {layer: int(kept.sum(1).max()) for layer, kept in supports.items()}
    check_rows(
        source.calibration.images, {layer: surveys[layer].rows for layer in supports}, unknowns
    )


def check_rows(images: int, held: dict[str, int], unknowns: dict[str, int]) -> None:
    """SettingError if a layer has fewer rows than the unknowns of its solve; names the layer that
    wants most.
    """
    layer = max(held, key=lambda name: unknowns[name] / held[name], default=None)
    if layer and held[layer] < unknowns[layer]:
        raise SettingError(
            "calibration.images",
            f"must be at least {-(-unknowns[layer] * images // held[layer])}",
            images,
            f"layer {layer} is solved for {unknowns[layer]} unknowns an output, "
            f"but has only {held[layer]} rows (images × positions)",
        )


def rows(module: nn.Module, entering: Tensor, target: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (n · positions, in · kernel) and targets (n · positions, out) at the positions drawn.

    Columns are those of the flat weight, or of ``drawn.patches`` where these can be read.
    """
    targets = chosen(outputs_of(module, target), at)
    if drawn.readable(module):
        return drawn.patches(module, entering, target.shape[-1], at), targets
    return chosen(patches_of(module, entering), at), targets


def chosen(maps: Tensor, at: Tensor) -> Tensor:
    """Rows (n · positions, channels) of ``maps`` (n, channels, all positions) at ``at`` (n,
    positions).
    """
    picked = maps.gather(2, at[:, None].expand(-1, maps.shape[1], -1))
    return picked.transpose(1, 2).flatten(0, 1)
