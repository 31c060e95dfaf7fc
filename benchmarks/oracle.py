"""Speed of the oracle against running the whole network for each map: speed.json.

    python -m benchmarks.oracle [--images 25] [--model vgg16] [--out outputs/benchmarks/oracle]

Claim: on VGG16 at 32×32 the losses without every map cost less than a third of as many passes of
the whole network, and are the same to 1e-5.
Device: one core of a CPU; noise as images, new weights, so that no map is 0 everywhere and skipped.
n and spread: eight maps of every site stand for all of it; each is timed once, processor time,
after a pass that warms up, the whole network beside it in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import machine
from mint_cli.granularity.filters import filters
from mint_cli.model.resnet_cifar import resnet_cifar
from mint_cli.model.vgg16 import vgg16
from mint_cli.network.cells import masks_of
from mint_cli.network.couplings import Recorded
from mint_cli.network.layers import apply_masks, inference, record
from mint_cli.network.removal import COPIES, Removals, judged
from mint_cli.protocol import Cells

COMMAND = "python -m benchmarks.oracle"
MODELS = {"resnet56": partial(resnet_cifar, depth=56, bottleneck=False), "vgg16": vgg16}
PIXELS = (3, 32, 32)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives and the seconds of processor time that it takes."""
    begin = time.process_time()
    return work(), time.process_time() - begin


def masked(model: nn.Module, cells: dict[str, Cells], site: str) -> nn.Module:
    """The network without the first map of a site, as ``prune`` leaves it."""
    kept = {name: torch.ones(own.shape, dtype=torch.bool) for name, own in cells.items()}
    kept[site][0] = False
    left, parameters = deepcopy(model), dict(model.named_parameters())
    masks = masks_of(cells, kept)
    apply_masks(left, {name: mask for name, mask in masks.items() if name in parameters})
    return left


def compare(name: str, images: int) -> dict[str, Any]:
    """Seconds a map of every site both ways, the ratio over all maps, the largest difference."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name](PIXELS, 10).eval().to(memory_format=torch.channels_last)
        x, labels = torch.rand(images, *PIXELS), torch.arange(images) % 10
    layers = {n: layer for n, layer in record(model, PIXELS).items() if "linear" not in n}
    cells = filters(Recorded(model, PIXELS), layers, residual=False)
    removals = Removals(model, cells, x, labels, COPIES)
    rows = [row(model, cells, removals, site, x, labels) for site in removals.in_order()]
    ours, whole = (sum(r["maps"] * r[kind] for r in rows) for kind in ("ours", "whole"))
    return {
        "model": name,
        "images": images,
        "maps": sum(r["maps"] for r in rows),
        "times_faster": whole / ours,
        "largest_difference": max(r["difference"] for r in rows),
        "sites": rows,
    }


def row(
    model: nn.Module,
    cells: dict[str, Cells],
    removals: Removals,
    site: str,
    x: Tensor,
    labels: Tensor,
) -> dict[str, Any]:
    """One site: seconds a map, the share of the pass before the cut among them."""
    left, chosen = masked(model, cells, site), torch.arange(COPIES)
    with inference(model), inference(left):
        seen, before = timed(lambda: removals.seen(removals.first(site)))
        pair = (seen.entering[: len(x)], seen.leaving)
        logits, seconds = timed(lambda: removals.logits(site, *pair, chosen))
        wanted, whole = timed(lambda: left(x))
        losses, _ = judged(logits[: len(x)], labels)
        difference = (losses - judged(wanted, labels)[0]).abs().max()
    maps = cells[site].shape[0]
    return {
        "site": site,
        "maps": maps,
        "ours": seconds / COPIES + before / maps,
        "whole": whole,
        "difference": float(difference),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and write the file."""
    about, _, _ = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog=COMMAND, description=about)
    parser.add_argument("--model", default="vgg16", choices=MODELS)
    parser.add_argument("--images", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/oracle"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = compare(options.model, options.images)
    about = {"copies": COPIES, **machine.environment("torch")}
    machine.write(options.out, "speed", {"environment": about, **found})
    print(
        f"{found['times_faster']:.2f} times faster, {found['largest_difference']:.1e} off at most"
    )


if __name__ == "__main__":
    main()
