"""Numba loops on all cores; no result depends on the number of threads."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

VISITED = np.int64(2**63 - 1)  # above every packed key
VERTEX_BITS = 16
VERTEX_MASK = np.int64(2**VERTEX_BITS - 1)


@njit(cache=True)
def _add_squares(distance, child, v):
    """Add the squared distance of every vertex to vertex ``v`` over the rows of ``child`` (dimensions, n), one after the other."""
    dims = child.shape[0]
    quads = dims // 4 * 4
    for k in range(0, quads, 4):
        a, b, c, d = child[k], child[k + 1], child[k + 2], child[k + 3]
        av, bv, cv, dv = a[v], b[v], c[v], d[v]
        for j in range(distance.size):
            da, db, dc, dd = a[j] - av, b[j] - bv, c[j] - cv, d[j] - dv
            distance[j] = (((distance[j] + da * da) + db * db) + dc * dc) + dd * dd
    for k in range(quads, dims):
        a, av = child[k], child[k, v]
        for j in range(distance.size):
            da = a[j] - av
            distance[j] += da * da


@njit(cache=True)
def _tree(base, child, drop_zero, ends):
    """Prim's algorithm from vertex 0; ``ends[v]`` becomes the tree vertex that v was joined to.

    A key packs distance, vertex and tree end into one integer, so one vectorised minimum finds the nearest vertex and
    settles ties: smallest distance, then lowest vertex, then lowest tree end.  Non-negative floats order as their bits.
    """
    n = base.shape[0]
    key = np.full(n, VISITED)
    tail = np.arange(n) << VERTEX_BITS
    distance = np.empty(n, np.float32)
    bits = distance.view(np.int32)
    v = np.int64(0)
    for _ in range(n - 1):
        tail[v] = key[v] = VISITED
        distance[:] = base[v]
        _add_squares(distance, child, v)
        if drop_zero:
            for j in range(n):
                distance[j] = distance[j] if distance[j] > 0 else np.float32(np.inf)
        best = VISITED
        for j in range(n):
            key[j] = min(key[j], (np.int64(bits[j]) << 32) | tail[j] | v)
            best = min(best, key[j])
        v = (best >> VERTEX_BITS) & VERTEX_MASK
        ends[v] = best & VERTEX_MASK


@njit(parallel=True, cache=True)
def spanning_trees(base, child, starts, drop_zero):
    """Trees of every child group on one parent part ``base`` float32 (n, n): int32 (groups, n), entry 0 unused."""
    groups = starts.size - 1
    ends = np.zeros((groups, base.shape[0]), np.int32)
    for c in prange(groups):
        _tree(base, child[starts[c] : starts[c + 1]], drop_zero, ends[c])
    return ends


@njit(parallel=True, cache=True)
def joint_part(full, parent, swapped, own_weight, rest_weight, out):
    """Weighted squared distances of (own block as swapped, rest): ``full`` less the block's own, plus the swapped block's.

    ``full`` float64 (n, n) over all columns, the blocks float64 (dimensions, n) on the grid, ``out`` float32 (n, n).
    """
    n = full.shape[0]
    for i in prange(n):
        rest, own = full[i].copy(), np.zeros(n)
        for k in range(parent.shape[0]):
            a, b = parent[k], swapped[k]
            for j in range(n):
                before, after = a[j] - a[i], b[j] - b[i]
                rest[j] -= before * before
                own[j] += after * after
        for j in range(n):
            out[i, j] = rest_weight * rest[j] + own_weight * own[j]


@njit(parallel=True, cache=True)
def nearest(full, rows, donors):
    """Donor nearest to each row outside one block, by ``full`` (rows, donors) less the block's squares: int64 (rows,).

    Of equally near donors the first at or cyclically after the row's own position is taken.
    """
    n, m = full.shape
    out = np.empty(n, np.int64)
    for i in prange(n):
        rest = full[i].copy()
        for k in range(rows.shape[0]):
            d = donors[k]
            for j in range(m):
                gap = d[j] - rows[k, i]
                rest[j] -= gap * gap
        best = np.inf
        for j in range(m):
            best = min(best, rest[j])
        j = i % m
        while rest[j] != best:
            j = (j + 1) % m
        out[i] = j
    return out
