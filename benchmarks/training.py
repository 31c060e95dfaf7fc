"""Speed of the training loop against a bare hand-written one: loop_cpu.json, loop_cuda.json.

    python -m benchmarks.training                            ResNet56, 20 steps
    python -m benchmarks.training --steps 350                on a GPU
    python -m benchmarks.training --model resnet56 vgg16 --precision float32 bfloat16

Claim: seeds, checks and crops of every image by itself cost nothing: the loop is as fast as the
bare one (``speed_relative_to_bare`` = 1).
Device: the GPU if there is one, else all threads of the CPU; precision is what a recipe's ``auto``
takes there unless it is named.
n and spread: both loops take turns on the same network, batch size, precision and augmentation, one
round to warm up and then ``--rounds``; the ratio is the median over these, ``spread`` its least and
greatest.  Seconds are by the clock.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import machine
from mint_cli.data import images as im
from mint_cli.machine import fast_precision
from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.model.vgg16 import vgg16
from mint_cli.network.layers import normalise_inputs
from mint_cli.protocol import Images
from mint_cli.training.loop import train_epoch
from mint_cli.training.recipe import Recipe

COMMAND = "python -m benchmarks.training"
MODELS = {"resnet56": partial(resnet_cifar, depth=56, bottleneck=False), "vgg16": vgg16}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
RECIPE = Recipe(
    epochs=1,
    batch_size=128,
    learning_rate=0.05,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    decay="cosine",
    milestones=[],
    gamma=0.2,
    warmup=0,
    label_smoothing=0.0,
    precision="float32",
    compile=False,
)


def optimiser_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser that both loops share."""
    rates = {"lr": recipe.learning_rate, "momentum": recipe.momentum}
    others = {"nesterov": recipe.nesterov, "weight_decay": recipe.weight_decay, "fused": True}
    return torch.optim.SGD(model.parameters(), **rates, **others)


def bare(model: nn.Module, optimiser, images: Images, recipe: Recipe) -> None:
    """The least that trains: padded whole set, one crop offset a batch, no masks, no checks."""
    device, low = images.pixels.device, recipe.precision == "bfloat16"
    padded = nn.functional.pad(images.pixels, (4, 4, 4, 4))
    for batch in torch.randperm(len(images), device=device).split(recipe.batch_size):
        top, left = np.random.randint(0, 9, 2)
        x = padded[batch, :, top : top + 32, left : left + 32]
        x = x.flip(-1) if np.random.rand() < 0.5 else x
        x = x.contiguous(memory_format=torch.channels_last).float() / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = nn.functional.cross_entropy(model(x), images.labels[batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds by the clock of one call, the device's queue emptied before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def compare(
    name: str, recipe: Recipe, steps: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    """Median seconds a step of both loops and the ratio bare / ours, 1 where ours is as fast."""
    model = normalise_inputs(MODELS[name]((3, 32, 32), 10), MEAN, STD)
    model = model.to(device, memory_format=torch.channels_last).train()
    images = noise(recipe.batch_size * steps, device)
    optimiser = optimiser_of(model, recipe)
    ours, plain = [], []
    for i in range(rounds + 1):
        order = [0, i]

        def own(order=order) -> None:
            train_epoch(model, optimiser, images, recipe, order, 0, [], im.views)

        ours.append(seconds(own, device) / steps)
        plain.append(seconds(lambda: bare(model, optimiser, images, recipe), device) / steps)
    ratios = [b / a for a, b in zip(ours[1:], plain[1:], strict=True)]  # the first warmed up
    return {
        "model": name,
        "precision": recipe.precision,
        "steps": steps,
        "seconds_per_step": statistics.median(ours[1:]),
        "seconds_per_step_bare": statistics.median(plain[1:]),
        "speed_relative_to_bare": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
    }


def noise(count: int, device: torch.device) -> Images:
    """Images of the size of CIFAR-10's, with its training transform."""
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (count,), device=device)
    return im.to(Images(pixels, labels, padding=4, flip=True), device)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    about, _, _ = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog=COMMAND, description=about)
    add, precisions = parser.add_argument, ["auto", "float32", "bfloat16"]
    add("--model", nargs="+", default=["resnet56"], choices=MODELS)
    add("--precision", nargs="+", default=["auto"], choices=precisions)
    add("--steps", type=int, default=20)
    add("--rounds", type=int, default=3)
    add("--out", type=Path, default=Path("outputs/benchmarks/training"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Compare the loops and write the file."""
    options = arguments(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = [fast_precision(device) if p == "auto" else p for p in options.precision]
    recipes = [replace(RECIPE, precision=precision) for precision in known]
    pairs = [(name, recipe) for name in options.model for recipe in recipes]
    rows = [compare(*pair, options.steps, options.rounds, device) for pair in pairs]
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu
    about = {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}
    shared = {key: value for key, value in vars(RECIPE).items() if key != "precision"}
    found = {**about, "recipe": shared, "rows": rows}
    machine.write(options.out, f"loop_{device.type}", found)
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
