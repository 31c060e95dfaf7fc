"""How well scores of cells rank them as a measured reference does: Spearman, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

Sites = dict[str, np.ndarray]  # one number a cell, (cells,)


@dataclass(frozen=True)
class Correlation:
    """A rank correlation, its 95 % interval over resampled cells, and how many sites it is of.

    ``value`` is None where no site has both scores and references that vary.
    """

    value: float | None
    low: float | None
    high: float | None
    sites: int


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of every row of two (rows, cells) arrays; NaN if one is constant."""
    ranks = [rankdata(side, axis=1) for side in (first, second)]
    a, b = (side - side.mean(1, keepdims=True) for side in ranks)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, (a * b).sum(1) / size, np.nan)


def correlations(
    scores: Sites, reference: Sites, resamples: int, rng: np.random.Generator
) -> dict[str, Correlation]:
    """Rank correlation of scores with a reference in three ways, by their names.

    ``per_layer``: the mean over sites of the correlation inside each, sites that are constant left
    out; ``all_layers``: of all cells together; ``normalised``: so after a site's scores were
    divided by their root sum of squares.  Intervals: cells are drawn with replacement
    inside every site.
    """
    draws = {site: chosen(len(own), resamples, rng) for site, own in scores.items()}
    scaled = {site: own / max(np.sqrt((own**2).sum()), 1e-300) for site, own in scores.items()}
    inside = {s: spearman(scores[s][at], reference[s][at]) for s, at in draws.items()}
    varied = {site: own for site, own in inside.items() if np.isfinite(own[0])}
    whole = np.concatenate([reference[site][at] for site, at in draws.items()], 1)
    found = {"per_layer": summary(mean_over(list(varied.values()), resamples), len(varied))}
    for name, sides in (("all_layers", scores), ("normalised", scaled)):
        own = np.concatenate([sides[site][at] for site, at in draws.items()], 1)
        found[name] = summary(spearman(own, whole), len(scores))
    return found


def chosen(count: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of the cells themselves, then of every resample of them: (1 + resamples, count)."""
    drawn = rng.integers(0, count, (resamples, count))
    return np.concatenate([np.arange(count)[None], drawn])


def mean_over(inside: list[np.ndarray], resamples: int) -> np.ndarray:
    """Mean over sites of every resample, those left out in which a site is constant."""
    if not inside:
        return np.full(1 + resamples, np.nan)
    table = np.stack(inside)
    defined = np.isfinite(table)
    return np.where(defined, table, 0.0).sum(0) / np.maximum(defined.sum(0), 1)


def summary(values: np.ndarray, sites: int) -> Correlation:
    """The first value with the 2.5 and 97.5 % points of the others."""
    if not np.isfinite(values[0]):
        return Correlation(None, None, None, 0)
    rest = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(rest, [0.025, 0.975]) if len(rest) else (values[0], values[0])
    return Correlation(float(values[0]), float(low), float(high), sites)
