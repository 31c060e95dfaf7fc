"""Other libraries' pruning beside ours: writes channels.json and channels.md.

    pip install 'mint-cli[peers]'
    python -m benchmarks.peers --checkpoint resnet56-4bfd9763.th --data ROOT

Half of the middle channels of every residual block of ResNet56 go, the same number from the same
layers by every method, and nothing is retrained: by Torch-Pruning's group magnitude (Fang et al.
2023, arXiv 2301.12900) and its FPGM (He et al. 2019, arXiv 1811.00250), and by ours at granularity
``filters``; each as it comes out, and with the statistics of batch norms re-estimated on as many
training images by the same function.  One more row of ours shares the same multiply-accumulates out
by itself: half of them, one quota for all layers.  (Torch-Pruning's LAMP orders the channels of a
layer as their magnitude does.)
Claim: what is re-solved keeps more than what is only re-normalised.
Device: any; ``--data`` is the folder that holds CIFAR-10.
n and spread: one checkpoint, one seed, all test images: the standard error over 10,000 images is .3
to .5 points where 50 to 90 % are right.
All rows are of one run, from one network; seconds are by the clock and hold scoring, pruning and
re-estimating.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import machine
from mint_cli.commandline import composed
from mint_cli.compose import Job, job_of
from mint_cli.experiment import plan
from mint_cli.machine import use
from mint_cli.network import cost
from mint_cli.network.layers import weighted_layers
from mint_cli.network.observe import reestimate_batch_norm
from mint_cli.stage.common import part
from mint_cli.stage.shrink import shrink
from mint_cli.store import Store, step
from mint_cli.training.loop import predict

COMMAND = "python -m benchmarks.peers"
LEAST = (1, 6, 1)  # the Torch-Pruning that this was written for
COMMON = (
    "experiment=cifar10_resnet56_recovery",
    "granularity@pruner.granularity=filters",
    "pruner.of=cells",
    "pruner.sparsity=0.5",
    "schedule.retrain.epochs=0",
)
OURS = {
    "L1": ("pruner=l1",),
    "L1, refit": ("pruner=l1", "compensation@pruner.compensation=refit"),
    "elimination": ("pruner=elimination",),
    "elimination, one quota": (
        "pruner=elimination",
        "allocation@pruner.allocation=global_quota",
        "pruner.of=macs",
    ),
}
THEIRS = {"group magnitude": "GroupMagnitudeImportance", "FPGM": "FPGMImportance"}
Row = dict[str, Any]


def torch_pruning() -> Any:
    """The library; leaves with a sentence where it is not installed, or too old."""
    try:
        found = version("torch-pruning")
    except PackageNotFoundError:
        found = ""
    if tuple(int(part) for part in found.split(".")[:3] if part.isdigit()) < LEAST:
        wanted = ".".join(map(str, LEAST))
        here = f"version {found} is here" if found else "it is not installed"
        sys.exit(f"peers: Torch-Pruning {wanted} is needed, {here}: pip install 'mint-cli[peers]'")
    return import_module("torch_pruning")


def job(overrides: list[str]) -> Job:
    """The job of one of our rows."""
    found = job_of(composed(overrides), Path.cwd())
    use(found.device, found.experiment.threads)
    return found


def ours(name: str, overrides: list[str], batch_norm_images: int) -> Row:
    """One of our rows, through the stages of the package."""
    found = job([*overrides, f"pruner.batch_norm_images={batch_norm_images}"])
    experiment, store = found.experiment, Store(found.store, found.device)
    (only,) = plan(experiment).rounds
    pruned, small = store.get(only.prune), store.get(step(shrink, experiment.network, only.prune))
    smaller = experiment.network.rebuild(small)
    scored = store.get(only.score).seconds if only.score else 0.0
    return {
        "library": "mint-cli",
        "method": name,
        "batch_norm_images": batch_norm_images,
        "accuracy": store.get(only.pruned).metrics["test"]["accuracy"],
        "parameters": cost.parameters(smaller),
        "macs": cost.macs(smaller, experiment.network.pixels),
        "seconds": scored + pruned.seconds,
    }


def theirs(method: str, overrides: list[str], batch_norm_images: int, library: Any) -> Row:
    """Torch-Pruning's row: the same channels may go, as many of every layer."""
    found = job(overrides)
    e, splits = found.experiment, found.experiment.data.splits
    dense = Store(found.store, found.device).get(plan(e).train)
    model = e.network.build(part("state", dense)).to(found.device)
    begin = time.perf_counter()
    importance = getattr(library.importance, THEIRS[method])(p=2)
    example = torch.zeros(1, *e.network.pixels, device=found.device)
    halve(model, makers(found), example, importance, library)
    if batch_norm_images:
        rng = np.random.default_rng(e.seed)
        reestimate_batch_norm(model, splits.train, batch_norm_images, rng)
    seconds = time.perf_counter() - begin
    predicted, _ = predict(model, splits.test)
    return {
        "library": f"Torch-Pruning {version('torch-pruning')}",
        "method": method,
        "batch_norm_images": batch_norm_images,
        "accuracy": float((predicted == splits.test.labels.cpu()).double().mean()),
        "parameters": cost.parameters(model),
        "macs": cost.macs(model, e.network.pixels),
        "seconds": seconds,
    }


def makers(found: Job) -> list[str]:
    """The layers that make the channels that may go."""
    experiment = found.experiment
    rows = {
        name.removesuffix(".weight")
        for cells in experiment.sites.cells(experiment.network).values()
        for name, labels in cells.labels.items()
        if labels.ndim == 1
    }
    return [name for name in weighted_layers(experiment.network.build()) if name in rows]


def halve(
    model: nn.Module, names: list[str], example: torch.Tensor, importance: Any, library: Any
) -> None:
    """Take the half of lowest importance out of the channels that each of the layers makes."""
    others = [layer for name, layer in weighted_layers(model).items() if name not in names]
    settings = {"importance": importance, "pruning_ratio": 0.5, "ignored_layers": others}
    library.pruner.BasePruner(model, example, **settings).step()


def measured(overrides: list[str], counts: list[int], library: Any) -> tuple[Row, list[Row]]:
    """The dense network, and every row without and with so many images for batch norms."""
    first = job([*overrides, *OURS["L1"]])
    network, planned = first.experiment.network, plan(first.experiment)
    store = Store(first.store, first.device)
    model = network.build(part("state", store.get(planned.train)))
    dense = {
        "accuracy": store.get(planned.dense).metrics["test"]["accuracy"],
        "parameters": cost.parameters(model),
        "macs": cost.macs(model, network.pixels),
        "images": len(network.data.splits.test),
    }
    base = [*overrides, *OURS["L1"]]
    rows = [theirs(name, base, count, library) for name in THEIRS for count in counts]
    for name, own in OURS.items():
        rows += [ours(name, [*overrides, *own], count) for count in counts]
    return dense, rows


def markdown(dense: Row, rows: list[Row], about: dict[str, str]) -> str:
    """The text of channels.md."""
    known = ", ".join(f"{name} {value}" for name, value in about.items())
    count = max(row["batch_norm_images"] for row in rows)
    head = ["library", "method", "as it comes out (%)", f"statistics of {count:,} images (%)"]
    head += ["parameters", "MACs", "seconds"]
    lines = []
    for plain in (row for row in rows if not row["batch_norm_images"]):
        pair = [row for row in rows if all(row[k] == plain[k] for k in ("library", "method"))]
        cells = [f"{row['accuracy'] * 100:.2f}" for row in pair]
        size = [f"{plain['parameters']:,}", f"{plain['macs']:,}", f"{plain['seconds']:.1f}"]
        lines.append([plain["library"], plain["method"], *cells, *size])
    size = f"{dense['parameters']:,} parameters, {dense['macs']:,} MACs"
    return "\n".join(
        [
            "# Half of the middle channels of ResNet56, beside other libraries\n",
            f"`{COMMAND}`; {known}.  Dense: {dense['accuracy'] * 100:.2f} %, {size}.",
            f"Accuracy on {dense['images']:,} test images, not retrained, one seed; seconds are",
            "those without re-estimating.\n",
            machine.table(head, lines),
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Measure and write both files."""
    about, _, _ = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog=COMMAND, description=about)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="resnet56-4bfd9763.th")
    add("--data", type=Path, default=Path("data"), help="folder that holds CIFAR-10")
    add("--out", type=Path, default=Path("outputs/benchmarks/peers"))
    add("settings", nargs="*", metavar="KEY=VALUE", help="of mint-run, for every row")
    options = parser.parse_intermixed_args(argv)
    library = torch_pruning()
    places = [f"checkpoint={options.checkpoint}", f"data={options.data}"]
    dense, rows = measured([*COMMON, *places, *options.settings], [0, 1000], library)
    known = machine.environment("torch", "torch-pruning")
    text = markdown(dense, rows, known)
    found = {"environment": known, "settings": options.settings, "dense": dense, "rows": rows}
    machine.write(options.out, "channels", found, text)
    print(text)


if __name__ == "__main__":
    main()
