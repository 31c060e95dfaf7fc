"""Paired tests: what two rows get right of the same test images, with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mint_cli.report.columns import named
from mint_cli.report.record import SHARES, Bits, Record
from mint_cli.report.rows import Row, Stat

LEVEL = 0.05  # p at which rows count as separated
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

    With one seed this is McNemar's exact test.  With several an image counts for the row that
    gets it right in more of them, because the seeds share their images.  The interval is that of
    Agresti and Min (Statistics in Medicine 24, 2005): one image more for either row.
    """
    seeds, images = ours.shape
    won = (ours.astype(int) - theirs.astype(int)).sum(0) / seeds  # image by image, −1 to 1
    middle = won.sum() / (images + 2)
    half = Z * np.sqrt(((np.square(won).sum() + 1) / (images + 2) - middle**2) / (images + 2))
    ends = float(middle - half), float(middle + half)
    p = exact(int((won > 0).sum()), int((won < 0).sum()))
    return Difference(float(won.mean()), *ends, p, seeds, images)


def exact(better: int, worse: int) -> float:
    """Two-sided p of so many images for one row and so many for the other, were both alike.

    The exact binomial test of McNemar (Psychometrika 12, 1947), summed in integers.
    """
    total, term, tail = better + worse, 1, 1
    for k in range(min(better, worse)):
        term = term * (total - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**total)


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
