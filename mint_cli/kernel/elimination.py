"""Columns of many least-squares problems eliminated or added one by one, every problem at pivots
of its own; no result depends on the number of threads."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, fastmath={"contract"})
def _pivot(values, scales, names, gone, n, largest):
    """Place of the least (``largest``) value² / scale of the ``n`` left; ties: the lowest name.

    Columns that are ``gone`` are the first to be eliminated, the last to be added.
    """
    best, at, ahead = values.dtype.type(np.inf), 0, False
    for j in range(n):
        score = values[j] * values[j] / scales[j]
        score = -score if largest else score
        if (gone[names[j]] != largest) != ahead:
            if not ahead:
                best, at, ahead = score, j, True
        elif score < best or (score == best and names[j] < names[at]):
            best, at = score, j
    return at


@njit(cache=True, fastmath={"contract"})
def _subtract(column, factors, at, steps, n):
    """Take from ``column`` (n,) ``steps`` rows of ``factors``, each times its entry at ``at``."""
    for s in range(0, steps - 3, 4):
        a, b, c, d = factors[s, :n], factors[s + 1, :n], factors[s + 2, :n], factors[s + 3, :n]
        av, bv, cv, dv = a[at], b[at], c[at], d[at]
        for j in range(n):
            column[j] -= (av * a[j] + bv * b[j]) + (cv * c[j] + dv * d[j])
    for s in range(steps // 4 * 4, steps):
        a, av = factors[s, :n], factors[s, at]
        for j in range(n):
            column[j] -= av * a[j]


@njit(cache=True)
def _to_end(values, scales, names, factors, at, end, steps):
    """Swap places ``at`` and ``end`` everywhere, so that what is left lies together."""
    values[at], values[end] = values[end], values[at]
    scales[at], scales[end] = scales[end], scales[at]
    names[at], names[end] = names[end], names[at]
    for s in range(steps):
        factors[s, at], factors[s, end] = factors[s, end], factors[s, at]


@njit(cache=True, fastmath={"contract"})
def _take(matrix, values, gone, largest, keep, order, changes, kept):
    """One problem: ``matrix`` (k, k) is factorised pivot by pivot, ``values`` (k,) change with it.

    Of the matrix only the diagonal is kept up to date: the column of a pivot is worked out when
    its turn comes, so a step reads just the factors of what is left, at most k² / 4 numbers.
    """
    k, one = len(values), values.dtype.type(1)
    names, factors = np.arange(k), np.empty((len(order), k), values.dtype)
    column, scales = np.empty_like(values), np.empty_like(values)
    for j in range(k):
        scales[j] = matrix[j, j]
    for step in range(len(order)):
        n = k - step
        if n == keep:
            kept[names[:n]] = values[:n]
        at = _pivot(values, scales, names, gone, n, largest)
        row, value, scale = matrix[names[at]], values[at], scales[at]
        order[step] = names[at]
        changes[step] = value * value / scale * (one - gone[names[at]])
        _to_end(values, scales, names, factors, at, n - 1, step)
        for j in range(n):
            column[j] = row[names[j]]
        _subtract(column, factors, n - 1, step, n)
        root = one / np.sqrt(scale)
        for j in range(n - 1):
            factor = column[j] * root
            factors[step, j] = factor
            values[j] -= factor * (value * root)
            scales[j] -= factor * factor


@njit(parallel=True, cache=True)
def take(matrices, values, gone, largest, keep, count):
    """``count`` columns of every problem, of least (``largest``) value² / scale given those before.

    ``matrices`` (1 or m, k, k), positive definite, are shared or one a problem, ``values`` (m, k).
    The inverse of a gram and full solutions: columns are eliminated, value² / scale is the exact
    rise of the error.  A gram and cross products: columns are added (``largest``), it is the fall.
    Columns ``gone`` bool (m, k) are eliminated first and added last.  Returns the order int64
    (m, count); value² / scale at every step, 0 for columns gone, (m, count); and the values when
    ``keep`` int64 (m,) columns were left, 0 where others were, (m, k).
    """
    m, k = values.shape
    order, changes = np.empty((m, count), np.int64), np.empty((m, count), values.dtype)
    kept = np.zeros_like(values)
    for r in prange(m):
        matrix = matrices[min(np.int64(r), len(matrices) - 1)]
        _take(matrix, values[r].copy(), gone[r], largest, keep[r], order[r], changes[r], kept[r])
    return order, changes, kept
