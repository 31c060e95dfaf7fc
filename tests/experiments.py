"""Experiments on a few images in memory, a second or less each, with plug-ins of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from mint_cli.allocation.capped_quota import capped_quota
from mint_cli.compensation.none import none
from mint_cli.compensation.refit import refit
from mint_cli.compensation.reselect import reselect
from mint_cli.criterion.elimination import elimination
from mint_cli.criterion.l1 import l1
from mint_cli.criterion.random import random
from mint_cli.data.images import take
from mint_cli.experiment import Experiment
from mint_cli.granularity.blocks import blocks
from mint_cli.granularity.weights import weights
from mint_cli.model.mlp import mlp
from mint_cli.protocol import Images, Splits
from mint_cli.schedule.oneshot import oneshot
from mint_cli.solver.rows import Calibration
from mint_cli.stage.common import Data, Network, Sites
from mint_cli.training.recipe import Recipe

RECIPE = Recipe(
    epochs=2,
    batch_size=50,
    learning_rate=0.05,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
    decay="cosine",
    milestones=[],
    gamma=0.1,
    warmup=0,
    label_smoothing=0.0,
    precision="float32",
    compile=False,
)
CALIBRATION = Calibration(150, 16, 0.5, 0.9, 1e-2, 50)
EVERY = {"child_groups": None, "parent_groups": None}


def striped(count: int, seed: int) -> Images:
    """Images of three classes: a bright stripe in one of three places."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 120, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    for c in range(3):
        pixels[labels == c, :, 2 * c : 2 * c + 2] += 90
    return Images(pixels, labels)


def stripes(root: Path, /, *, validation: int) -> Splits:
    """240 training and 90 test images."""
    train, test = striped(240, 0), striped(90, 1)
    held = take(train, torch.arange(validation))
    return Splits(train, held, test, 3, (0.5,), (0.25,))


class Small(nn.Module):
    """A convolution, a residual block with norms that works in place, a linear layer."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.outer = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.last = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(width, classes)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.last(self.outer(self.relu(self.norm(self.inner(x)))))
        y += x
        return self.out(self.relu(y).mean((2, 3)))


def small(shape: tuple[int, ...], classes: int, /, *, width: int) -> nn.Module:
    return Small(classes, width)


def data(validation: int = 0) -> Data:
    return Data(partial(stripes, validation=validation), Path())


MLP = partial(mlp, hidden=[20, 10], dropout=0.0)
SMALL = partial(small, width=6)
SINGLE = partial(weights)
KERNELS = partial(blocks, **EVERY)
CAPPED = partial(capped_quota, cap=1.0, caps={})
REFIT = partial(refit, calibration=CALIBRATION, inputs="pruned")
RESELECT = partial(reselect, calibration=CALIBRATION, inputs="pruned", growth=2.0, sweeps=1)
ELIMINATION = partial(elimination, calibration=CALIBRATION, depth=100)
L1 = partial(l1, normalise=False)
RANDOM = partial(random)
NONE = partial(none)


def network(model: partial = MLP, seed: int = 0, validation: int = 0) -> Network:
    return Network(data(validation), model, seed, 1)


def sites(granularity: partial = KERNELS, skip: list[str] | None = None) -> Sites:
    return Sites(skip or [], granularity)


PLAIN = {
    "model": MLP,
    "checkpoint": None,
    "skip": [],
    "granularity": KERNELS,
    "criterion": L1,
    "allocation": CAPPED,
    "compensation": NONE,
    "sparsity": 0.5,
    "of": "prunable",
    "batch_norm_images": 0,
    "rounds": partial(oneshot),
    "train": RECIPE,
    "retrain": replace(RECIPE, epochs=1),
    "seed": 0,
    "threads": 1,
}


def experiment(validation: int = 0, **changed) -> Experiment:
    """An experiment of a second, with some of its fields changed."""
    return Experiment(**{"data": data(validation), **PLAIN, **changed})
