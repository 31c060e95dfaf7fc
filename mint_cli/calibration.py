"""Calibration: training images streamed through the dense and the pruned network, one layer's least-squares problem at a time."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mint_cli import images as im
from mint_cli import least_squares as ls
from mint_cli.network import device_of, inference, passage, spread, squared_jacobians, weighted_layers
from mint_cli.protocol import Images, Masks, SettingError, Tensors

CLIP = 20.0  # most that one position counts, in multiples of the mean: sensitivities have heavy tails


@dataclass(frozen=True)
class Calibration:
    """Which images a refit looks at, and how.

    ``positions`` of every feature map are drawn at random and become rows of the least-squares problems; ``measured`` is the
    share of a row's weight that is its measured sensitivity (see ``survey``), the rest is uniform; ``ridge`` is in units of
    the mean variance of a layer's inputs.  Seeded: every layer sees the same crops.
    """

    images: Images
    count: int
    positions: int
    measured: float
    ridge: float
    batch_size: int
    seed: int

    def batches(self) -> Iterator[Tensor]:
        """Pixels after the training transform, (batch size, c, h, w): the statistics of any other transform are biased."""
        rng = np.random.default_rng(self.seed)
        index = torch.from_numpy(rng.choice(len(self.images), self.count, replace=False))
        for chunk in index.split(self.batch_size):
            yield im.augmented(self.images, chunk, rng)


@dataclass
class Survey:
    """One layer's rows, batch by batch, and how much the logits feel them."""

    at: list[Tensor]  # each int16 (n, positions): the positions drawn
    weights: list[Tensor]  # each float16 (n, positions), mean about 1
    importance: Tensor  # (out,): mean squared Jacobian, logits² per output²

    @property
    def rows(self) -> int:
        return sum(at.numel() for at in self.at)


def survey(model: nn.Module, layers: list[str], calibration: Calibration) -> dict[str, Survey]:
    """Draw the rows of every layer and weigh them, and the layer's outputs, by the squared Jacobian of the logits.

    One pass over the images.  Kept of it: four bytes a row, a few kilobytes an image.
    """
    generator = torch.Generator().manual_seed(calibration.seed)
    surveys = {name: Survey([], [], torch.zeros(())) for name in layers}
    for x in calibration.batches():
        for name, felt in squared_jacobians(model, layers, x.to(device_of(model)), 1, generator).items():
            surveyed, size = surveys[name], felt.shape[2]
            at = torch.rand(len(felt), size, generator=generator).argsort(1)[:, : calibration.positions].to(felt.device)
            surveyed.at.append(at.short())
            surveyed.weights.append(felt.sum(1).gather(1, at))
            surveyed.importance = surveyed.importance.to(felt.device) + felt.sum((0, 2)).double() / (calibration.count * size)
    for surveyed in surveys.values():
        mean = torch.cat(surveyed.weights).mean().clamp_min(torch.finfo(torch.float32).tiny)
        surveyed.weights = [mixed(felt / mean, calibration.measured).half() for felt in surveyed.weights]
    return surveys


def mixed(relative: Tensor, measured: float) -> Tensor:
    """Weights of rows whose measured sensitivity, relative to the mean, is ``relative``."""
    return 1 - measured + measured * relative.clamp_max(CLIP)


def equations(dense: nn.Module, pruned: nn.Module, layer: str, surveyed: Survey, calibration: Calibration) -> ls.Normal:
    """The layer's normal equations: inputs as ``pruned`` delivers them, targets as ``dense`` has them.

    Where the output is added to a shortcut, the target also makes up for what the shortcut has lost already.
    """
    module = weighted_layers(dense)[layer]
    moments = ls.empty(module.weight[0].numel(), len(module.weight), module.weight.device)
    with inference(dense), inference(pruned):
        for x, at, weights in zip(calibration.batches(), surveyed.at, surveyed.weights, strict=True):
            x = x.to(module.weight.device)
            wanted = passage(dense, layer, x)
            given = passage(pruned, layer, x) if pruned is not dense else wanted
            target = wanted.leaving + shortfall(dense, wanted, given)
            ls.add(moments, *rows(module, given.entering, target, at.long()), weights.float().flatten())
    return ls.normal(moments, calibration.ridge, centred=bias_key(dense, layer, wanted.norm_mean) is not None)


def shortfall(model: nn.Module, wanted, given) -> Tensor | float:
    """What a layer's output must make up for, in its own units: what it is added to in ``wanted``, less the same in ``given``."""
    if wanted.added is None:
        return 0.0
    norm = next((m for m in model.modules() if getattr(m, "running_mean", None) is wanted.norm_mean), None)
    scale = 1.0 if norm is None else norm.weight / (norm.running_var + norm.eps).sqrt()


def rows(module: nn.Module, entering: Tensor, target: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (n · positions, in · kernel), columns as in the flat weight, and targets (n · positions, out) at the positions drawn."""
    if isinstance(module, nn.Linear):
        return entering, target
    unfolded = nn.functional.unfold(entering, module.kernel_size, module.dilation, module.padding, module.stride)
    pairs = (t.gather(2, at[:, None].expand(-1, t.shape[1], -1)) for t in (unfolded, target.flatten(2)))
    return tuple(t.transpose(1, 2).flatten(0, 1) for t in pairs)
