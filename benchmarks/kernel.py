"""Speed and memory of the spanning-tree kernel: writes kernel.json and kernel.md.

    python -m benchmarks.kernel [--out outputs/benchmarks/estimators]
    python -m benchmarks.kernel --only vgg16        one measure, printed; on a GPU

Claims: a tree of 1,666 points grows at least 300 times as fast as by SciPy's csgraph on one core;
two cores score 700 pairs of groups a second of a layer of 512 × 512 channels within 1.5 GB; time
grows no faster than n² (missed so far); a GPU (H200) scores VGG16 in 8 s.
Device: any CPU; only the last claim wants a GPU and Triton, and says "not run" without one.
n and spread: the fastest of n runs after one that compiles (trees: 40, SciPy: 4, growth: 20,
pairs: 2); ``spread`` is how far the slowest of them lies above it.  Layers are timed once.
Ratios are of one process, both sides in processor time; every measure has a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from benchmarks import machine
from mint_cli.estimator.gmi import gmi
from mint_cli.granularity.blocks import contiguous
from mint_cli.kernel import cpu
from mint_cli.kernel.distance import grid, squares

VGG16 = [(128, 256), *[(256, 256)] * 2, (256, 512), *[(512, 512)] * 6]  # conv5 … conv13, linear1
COMMAND = "python -m benchmarks.kernel"


def layer(samples: int, parents: int, children: int) -> tuple[Tensor, Tensor]:
    """Linear children plus noise and rectified parents, float32, on the scale of activations."""
    rng = np.random.default_rng(0)
    parent = torch.from_numpy(rng.normal(size=(samples, parents))).float().relu()
    weight = torch.from_numpy(rng.normal(size=(parents, children))).float() / parents**0.5
    noise = torch.from_numpy(rng.normal(size=(samples, children))).float()
    return parent @ weight + 0.1 * noise, parent


def score(
    samples: int, parents: int, children: int, groups: tuple[int, int], device: str = "cpu"
) -> float:
    """Seconds of one split of gmi on one layer, distances and neighbours included."""
    child, parent = (side.to(device) for side in layer(samples, parents, children))
    labels = (contiguous(children, groups[0]).long(), contiguous(parents, groups[1]).long())
    begin = time.perf_counter()
    gmi(child, parent, *labels, np.random.default_rng(0), splits=1, scale="standard")
    return time.perf_counter() - begin


def one_tree(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Callable[[], np.ndarray]]:
    """Squared distances of 512 parents, 4 child channels, names of rows, and a call for the tree.

    Rows are in the order that the package gives them.
    """
    child, parent = layer(n, 512, 4)
    positions, step = grid(parent.double())
    base = squares(positions, positions).float().numpy()
    names = cpu.visiting_order(base)
    base = np.ascontiguousarray(base[names][:, names])
    child = (child / step).T.contiguous().numpy()[:, names].copy()
    starts = np.array([0, len(child)])
    return base, child, names, lambda: cpu.spanning_trees(base, child, starts, False, names)[0]


def tree_against_scipy() -> dict[str, Any]:
    """One tree of 1,666 points on one core: csgraph on the dense matrix, and the kernel.

    The kernel also adds the 4 child channels, which csgraph finds added.
    """
    machine.one_core()
    base, child, names, grow = one_tree(1666)
    full = base + ((child[:, :, None] - child[:, None]) ** 2).sum(0)
    ours = machine.repeated(40, grow)
    theirs = machine.repeated(4, lambda: minimum_spanning_tree(full))
    place, ends = np.argsort(names), grow()
    weight = full[place[1:], place[ends[1:]]].sum(dtype=np.float64)
    right = minimum_spanning_tree(full).sum(dtype=np.float64)
    return {
        "scipy_ms": min(theirs) * 1e3,
        "kernel_ms": min(ours) * 1e3,
        "ratio": min(theirs) / min(ours),
        "same_weight": bool(np.isclose(weight, right, rtol=1e-6)),
        "spread": {"scipy": machine.spread(theirs), "kernel": machine.spread(ours)},
    }


def layer_512() -> dict[str, Any]:
    """One layer 512 → 512, 128 × 128 groups, 2,500 samples, one split, all cores."""
    score(60, 16, 16, (4, 4))  # compiles
    before, busy = machine.peak_mib(), time.process_time()
    seconds = score(2500, 512, 512, (128, 128))
    busy = time.process_time() - busy
    return {
        "cores": numba.config.NUMBA_NUM_THREADS,
        "seconds": seconds,
        "core_seconds": busy,
        "pairs_per_s": 128 * 128 / seconds,
        "pairs_per_core_s": 128 * 128 / busy,
        "peak_mib": machine.peak_mib(),
        "peak_before_mib": before,
    }


def growth(few: list[float], many: list[float], factor: float, unit: float) -> dict[str, Any]:
    """How much longer ``many`` samples take than ``few``, beside what n² would be."""
    spreads = {"few": machine.spread(few), "many": machine.spread(many)}
    times = {"few": min(few) * unit, "many": min(many) * unit}
    return {**times, "ratio": min(many) / min(few), "n_squared": factor**2, "spread": spreads}


def tree_growth() -> dict[str, Any]:
    """Milliseconds of trees of 1,666 and 4,333 points (2,500 and 6,500 samples), one core."""
    machine.one_core()
    few, many = (machine.repeated(20, one_tree(n)[-1]) for n in (1666, 4333))
    return growth(few, many, 4333 / 1666, 1e3)


def pairs_growth() -> dict[str, Any]:
    """Core seconds for 32 × 16 pairs with 2,500 and with 6,500 samples, all included."""
    machine.one_core()
    few, many = (
        machine.repeated(2, lambda n=n: score(n, 128, 128, (32, 16))) for n in (2500, 6500)
    )
    return growth(few, many, 6500 / 2500, 1)


def vgg16() -> dict[str, Any]:
    """All ten VGG16 layers, 163,840 trees of 1,666 points, one split, all included, on a GPU."""
    if not (torch.cuda.is_available() and importlib.util.find_spec("triton")):
        return {"not_run": f"{COMMAND} --only vgg16"}
    score(2500, 128, 128, (16, 16), "cuda")  # compiles
    seconds = sum(score(2500, *sizes, (128, 128), "cuda") for sizes in VGG16)
    peak = torch.cuda.max_memory_allocated() / 2**20
    return {"device": torch.cuda.get_device_name(), "seconds": seconds, "peak_gpu_mib": peak}


ALL = (tree_against_scipy, layer_512, tree_growth, pairs_growth, vgg16)
MEASURES = {f.__name__: f for f in ALL}


def markdown(found: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    """The text of kernel.md."""
    known = ", ".join(f"{name} {value}" for name, value in about.items())
    load = os.getloadavg()[0]
    note = f"Load average {load:.1f} at the end of the run; one-core rows are processor time."
    lines = ["# Spanning-tree kernel", "", f"`{COMMAND}`; {known}.", note, ""]
    return "\n".join([*lines, machine.table(["work", "goal", "measured"], table_rows(found))])


def table_rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Work, goal and what was measured."""
    tree, layer, trees, pairs, gpu = (found[name] for name in MEASURES)
    times = f"{tree['kernel_ms']:.2f} ms, scipy {tree['scipy_ms']:.0f} ms"
    share = f"{layer['pairs_per_core_s']:.0f} pairs per second of one core"
    rate = f"{layer['pairs_per_s']:.0f} pairs/s by the clock ({layer['seconds']:.1f} s), {share}"
    before = f"{layer['peak_before_mib'] / 1024:.2f} before the layer (libraries, compiler)"
    size = f"128×128 groups, 2,500 samples, {layer['cores']} cores, one split"
    last = f"not run: no GPU at hand; `{gpu['not_run']}`" if "not_run" in gpu else ""
    return [
        [
            "one tree, 1,666 points, 4 child channels, one core",
            "≥ 300 × scipy's csgraph",
            f"{tree['ratio']:.0f} × ({times}; equal weight: {tree['same_weight']})",
        ],
        [f"one layer 512→512, {size}", "≥ 700 pairs/s", rate],
        [
            "peak memory of it",
            "≤ 1.5 GB",
            f"{layer['peak_mib'] / 1024:.2f} GiB, of which {before}",
        ],
        [
            "one tree, 4,333 against 1,666 points",
            f"≤ {trees['n_squared']:.2f} × (n²)",
            f"{trees['ratio']:.2f} × ({trees['few']:.2f} → {trees['many']:.2f} ms)",
        ],
        [
            "512 pairs, 6,500 against 2,500 samples, all included",
            f"≤ {pairs['n_squared']:.2f} ×",
            f"{pairs['ratio']:.2f} × ({pairs['few']:.2f} → {pairs['many']:.2f} s)",
        ],
        [
            "ten VGG16 layers, 163,840 trees of 1,666 points, all included, GPU",
            "≤ 8 s (H200)",
            last or f"{gpu['seconds']:.1f} s on {gpu['device']}",
        ],
    ]


def main(argv: list[str] | None = None) -> None:
    """Take the measures and write both files."""
    about, _, _ = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog=COMMAND, description=about)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/estimators"))
    parser.add_argument("--only", choices=MEASURES, help="print one measure and write nothing")
    options = parser.parse_args(argv)
    if options.only:
        print(json.dumps(MEASURES[options.only]()))
        return
    known = machine.environment("torch", "numba", "numpy", "scipy")
    known |= {"cores": len(machine.processors())}
    found = {name: machine.alone("benchmarks.kernel", "--only", name) for name in MEASURES}
    text = markdown(found, known)
    machine.write(options.out, "kernel", {"environment": known, **found}, text)
    print(text)


if __name__ == "__main__":
    main()
