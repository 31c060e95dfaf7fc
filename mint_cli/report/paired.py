"""Paired tests: what two rows get right of the same test images, with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log
from typing import NamedTuple

import numpy as np

from mint_cli.report.columns import named
from mint_cli.report.record import SHARES, Bits, Record
from mint_cli.report.rows import Row, Stat

LEVEL = 0.05  # p at which rows count as separated
NEGLIGIBLE = 1e-40  # chance, left out of sums
Z = 1.959964  # of a normal distribution, 95 % lie within so many standard deviations


class Difference(NamedTuple):
    """Accuracy of one row less another's, its 95 % interval over test images, and p."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    images: int


def compare(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compare what two rows classified right: (seeds, images), 1 = right.

    Images are the sample: seeds share them, so each counts once, by the seeds that it was won in.
    The interval is that of Agresti and Min (Statistics in Medicine 24, 2005): one image more for
    either row.
    """
    seeds, images = ours.shape
    won = (ours.astype(int) - theirs.astype(int)).sum(0)  # image by image, −seeds to seeds
    middle = won.sum() / seeds / (images + 2)
    square = (np.square(won / seeds).sum() + 1) / (images + 2)
    half = Z * np.sqrt((square - middle**2) / (images + 2))
    ends = float(middle - half), float(middle + half)
    return Difference(float(won.mean() / seeds), *ends, exact(won), seeds, images)


def exact(won: np.ndarray) -> float:
    """Two-sided p of so large a sum over images, were each as likely to go to the other row.

    With one seed this is McNemar's exact test (Psychometrika 12, 1947), with several the same
    randomisation of whole images.
    """
    sizes = np.abs(won)
    first, chances = 0, np.ones(1)  # of every sum, from the first on, that the row ahead loses
    for size in range(1, int(sizes.max(initial=0)) + 1):
        heads = binomial(int((sizes == size).sum()))
        likely = np.flatnonzero(heads > NEGLIGIBLE)
        of_size = np.zeros((likely[-1] - likely[0]) * size + 1)
        of_size[::size] = heads[likely[0] : likely[-1] + 1]
        first, chances = first + size * likely[0], np.convolve(chances, of_size)
    lost = int(sizes.sum() - abs(won.sum())) // 2
    return min(1.0, 2 * float(chances[: max(0, lost + 1 - first)].sum()))


def binomial(count: int) -> np.ndarray:
    """Chances of 0 to ``count`` heads among so many tosses."""
    ways = [lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in range(count + 1)]
    return np.exp(np.array(ways) - count * log(2))


def holm(ps: Sequence[float]) -> list[float]:
    """p of several comparisons after Holm's correction (Scand. J. Statistics 6, 1979)."""
    corrected, largest = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def against_best(rows: Sequence[Row], metric: str, apart: Sequence[str]) -> list[Row]:
    """Every row beside the best of its data set, model, checkpoint and sparsity.

    Rows of the result have the settings ``apart``, ``compared with`` and ``separated``; rows
    without predictions of seeds in common with the best are left out.
    """
    state = metric.rpartition(".")[2]
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for row in rows:
        if any(state in one.correct for one in row.records):
            groups.setdefault(alike(row), []).append(row)
    found = []
    for group in groups.values():
        best = max(group, key=lambda row: row.metrics[metric].mean)
        others = [(row, difference(row, best, state)) for row in group if row is not best]
        others = [(row, found) for row, found in others if found]
        corrected = holm([one.p for _, one in others])
        for (row, one), p in zip(others, corrected, strict=True):
            separated = "yes" if p <= LEVEL else "no"
            words = {"compared with": named(best, apart), "separated": separated}
            own = {key: row.settings[key] for key in apart if key in row.settings}
            found.append(Row(own | words, numbers(one), records=row.records))
    return found


def alike(row: Row) -> tuple[str | None, ...]:
    """What two rows must have in common to be compared; without an asked sparsity the reached."""
    asked = row.settings.get("pruner.sparsity", "null")
    if asked == "null" and SHARES[1] in row.metrics:
        asked = f"{row.metrics[SHARES[1]].mean:.3f}"
    same = ("dataset", "model", "checkpoint", "pruner.of")
    return (asked, *(row.settings.get(key) for key in same))


def difference(row: Row, best: Row, state: str) -> Difference | None:
    """Compare two rows on the seeds and images that both have."""
    ours, theirs = by_seed(row, state), by_seed(best, state)
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    images = {one.images for pair in pairs for one in pair}
    if len(images) != 1:  # no seed in common, or other images
        return None
    sides = zip(*pairs, strict=True)
    return compare(*(np.stack([unpacked(one) for one in side]) for side in sides))


def by_seed(row: Row, state: str) -> dict[tuple[tuple[str, str], ...], Bits]:
    """Predictions of a row's seeds."""
    return {seed(one): one.correct[state] for one in row.records if state in one.correct}


def seed(record: Record) -> tuple[tuple[str, str], ...]:
    """The seeds that the dense network and the test images depend on."""
    return tuple(one for one in record.seeds if one[0] == "seed" or one[0].startswith("dataset."))


def unpacked(bits: Bits) -> np.ndarray:
    """Predictions as 0 and 1, one an image."""
    return np.unpackbits(np.frombuffer(bits.packed, np.uint8), count=bits.images)


def numbers(one: Difference) -> dict[str, Stat]:
    """A difference as the numbers of a row."""
    return {
        "images": Stat(one.images, None, None),
        "difference": Stat(one.mean, None, one.seeds),
        "difference.low": Stat(one.low, None, None),
        "difference.high": Stat(one.high, None, None),
        "p": Stat(one.p, None, None),
    }
