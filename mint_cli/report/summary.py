"""A record in the words that a user reads at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_LAYERS = 20  # shown
FIGURES = {  # of a score's reliability, as they are called
    "agreement": "agreement of two halves",
    "child": "child effect",
    "parent": "parent effect",
    "interaction": "interaction",
    "tied": "tied",
}


def summary(record: dict[str, Any], path: Path, control: str | None = None) -> str:
    """What a run came to, where its record lies, and the command of a run to compare it with."""
    sparsity, weights, accuracy = record["sparsity"], record["weights"], record["accuracy"]
    asked = "by threshold" if sparsity["asked"] is None else f"{sparsity['asked']:.4f}"
    layers = [f"{name} {share:.3f}" for name, share in sparsity["layers"].items()]
    lines = {
        "sparsity": f"asked {asked}, reached {sparsity['total']:.4f} of {weights['prunable']:,} "
        f"prunable weights ({sparsity['of_all_weights']:.4f} of all {weights['all']:,})",
        "": some(layers),
        "accuracy": ", ".join(f"{name} {value:.2%}" for name, value in accuracy.items())
        + " (test)",
        **({"size": size(record["shrink"], record["cost"])} if record.get("shrink") else {}),
        "reliability": reliability(record["reliability"]),
        "seconds": ", ".join(
            f"{name} {seconds:.1f}" for name, seconds in record["seconds"].items()
        ),
        "record": str(path),
    }
    lines |= {"in words": in_words(sparsity["total"], accuracy)}
    lines |= {"compare": f"{control}    the same with weights removed at random"} if control else {}
    title = " ".join(str(record[name]) for name in ("dataset", "model", "pruner"))
    told = "\n".join(f"  {name:<12}{line}" for name, line in lines.items())
    return f"{title} seed {record['seed']}\n{told}"


def size(shrink: dict[str, Any], cost: dict[str, Any]) -> str:
    """How much smaller the network has become, or why it has not."""
    if shrink["reason"]:
        return f"not smaller: {shrink['reason']}"
    counts = (
        f"{name} {cost['dense'][name]:,} → {cost['shrunken'][name]:,}"
        for name in ("parameters", "macs", "bytes")
    )
    before, after = (cost[name]["latency"]["batch_128"]["median"] for name in ("dense", "shrunken"))
    times = f"milliseconds for 128 images {before:.1f} → {after:.1f}"
    return f"{', '.join(counts)}, {times}; outputs equal to {shrink['difference']:.0e}"


def in_words(gone: float, accuracy: dict[str, float]) -> str:
    """The outcome for a reader who knows none of the words above."""
    before, pruned, retrained = (
        f"{accuracy[name]:.1%}" for name in ("dense", "pruned", "retrained")
    )
    return (
        f"of the weights that may go {gone:.1%} are gone; of the test images {before} were"
        f" classified right before, {pruned} without retraining, {retrained} after it"
    )


def some(layers: list[str]) -> str:
    """The first layers, and how many more there are."""
    more = len(layers) - MOST_LAYERS
    return ", ".join(layers[:MOST_LAYERS]) + (f" and {more} more" if more > 0 else "")


def reliability(report: dict[str, Any] | None) -> str:
    """Means over layers of how far the scores can be relied on, a dash where none is known."""
    if report is None:
        return "no score was needed: every layer gives up the same share"
    found = {
        name: mean(layer[key] for layer in report["layers"].values())
        for key, name in FIGURES.items()
    }
    return ", ".join(
        f"{name} {'–' if value is None else f'{value:.2f}'}" for name, value in found.items()
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that there are; None of none."""
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else None
