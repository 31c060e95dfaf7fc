"""Numba loops on as many threads as torch has; no result depends on their number."""

from __future__ import annotations

import numpy as np
import torch
from numba import config, njit, prange, set_num_threads

VISITED = np.int64(2**63 - 1)  # above every packed key
VERTEX_BITS = 16
VERTEX_MASK = np.int64(2**VERTEX_BITS - 1)
TILE = 256  # vertices passed over together once all of them are in the tree


def use_threads(count: int) -> None:
    """Run the loops on ``count`` threads, or on as many as numba has been started with."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))


use_threads(torch.get_num_threads())


@njit(cache=True)
def _four_more(distance, row, child, k, v, lo):
    """``row`` plus the squared distance to vertex ``v`` over four rows of ``child``, added one
    after the other, from vertex ``lo`` on.
    """
    hi = lo + distance.size
    a, b, c, d = child[k, lo:hi], child[k + 1, lo:hi], child[k + 2, lo:hi], child[k + 3, lo:hi]
    av, bv, cv, dv = child[k, v], child[k + 1, v], child[k + 2, v], child[k + 3, v]
    for j in range(distance.size):
        da, db, dc, dd = a[j] - av, b[j] - bv, c[j] - cv, d[j] - dv
        distance[j] = (((row[j] + da * da) + db * db) + dc * dc) + dd * dd


@njit(cache=True)
def _one_more(distance, row, child, k, v, lo):
    """``row`` plus the squared distance to vertex ``v`` over one row of ``child``, from vertex
    ``lo`` on.
    """
    a, av = child[k, lo : lo + distance.size], child[k, v]
    for j in range(distance.size):
        da = a[j] - av
        distance[j] = row[j] + da * da


@njit(cache=True)
def _distances(distance, row, child, v, lo, drop_zero):
    """Squared distances of vertex ``v`` to the vertices from ``lo`` on; 0 becomes infinite where
    ``drop_zero``.
    """
    if child.shape[0] == 0:
        distance[:] = row
    for k in range(0, child.shape[0] - 3, 4):
        _four_more(distance, row, child, k, v, lo)
        row = distance
    for k in range(child.shape[0] // 4 * 4, child.shape[0]):
        _one_more(distance, row, child, k, v, lo)
        row = distance
    if drop_zero:
        for j in range(distance.size):
            distance[j] = distance[j] if distance[j] > 0 else np.float32(np.inf)


@njit(cache=True)
def _nearest_key(key, tail, bits, v):
    """Lower every key by the edges of vertex ``v`` and return the lowest."""
    best = VISITED
    for j in range(key.size):
        lower = min(key[j], (np.int64(bits[j]) << 32) | tail[j] | v)
        key[j] = lower
        best = min(best, lower)
    return best


@njit(cache=True)
def _step(base, child, drop_zero, v, name, key, tail, distance, left):
    """Join vertex ``v`` to the tree and return the lowest key; tiles without a vertex outside the
    tree are passed over.
    """
    n, best, tile = key.size, VISITED, 0
    bits = distance.view(np.int32)
    while tile < left.size:
        first = tile
        while tile < left.size and left[tile] > 0:
            tile += 1
        lo, hi = first * TILE, min(n, tile * TILE)
        if lo < hi:
            _distances(distance[lo:hi], base[v, lo:hi], child, v, lo, drop_zero)
            best = min(best, _nearest_key(key[lo:hi], tail[lo:hi], bits[lo:hi], name))
        tile += 1
    return best


@njit(cache=True)
def _tree(base, child, names, drop_zero, ends, visits):
    """Prim's algorithm from vertex 0, which is named 0; ``ends[v]`` becomes the tree vertex that v
    was joined to, by name.

    A key packs distance, vertex and tree end into one integer, so one vectorised minimum finds the
    nearest vertex and settles ties: smallest distance, then lowest vertex, then lowest tree end.
    Non-negative floats order as their bits. ``visits`` becomes the names in the order of joining.
    """
    n = base.shape[0]
    key, tail, place = np.full(n, VISITED), names << VERTEX_BITS, np.empty(n, np.int64)
    left = np.full((n + TILE - 1) // TILE, TILE)
    left[-1] -= left.size * TILE - n
    distance = np.empty(n, np.float32)
    place[names] = np.arange(n)
    name = np.int64(0)
    for step in range(n - 1):
        v = place[name]
        tail[v], key[v] = VISITED, VISITED
        left[v // TILE] -= 1
        best = _step(base, child, drop_zero, v, name, key, tail, distance, left)
        name = (best >> VERTEX_BITS) & VERTEX_MASK
        ends[name] = best & VERTEX_MASK
        visits[step + 1] = name


@njit(parallel=True, cache=True)
def spanning_trees(base, child, starts, drop_zero, names):
    """Trees of every child group on one parent part ``base`` float32 (n, n): int32 (groups, n),
    entry 0 unused.

    ``names`` int64 (n,) numbers the vertices, the first 0: ties and results go by name, whatever
    the order of the rows.
    """
    groups = starts.size - 1
    ends = np.zeros((groups, base.shape[0]), np.int32)
    for c in prange(groups):
        _tree(
            base,
            child[starts[c] : starts[c + 1]],
            names,
            drop_zero,
            ends[c],
            np.empty(base.shape[0], np.int64),
        )
    return ends


@njit(cache=True)
def visiting_order(base):
    """Vertices in the order in which Prim's algorithm joins them, int64 (n,)."""
    n = base.shape[0]
    visits = np.zeros(n, np.int64)
    _tree(base, base[:0], np.arange(n), False, np.zeros(n, np.int32), visits)
    return visits


@njit(parallel=True, cache=True)
def joint_part(full, parent, swapped, own_weight, rest_weight, out):
    """Weighted squared distances of (own block as swapped, rest): ``full`` less the block's own,
    plus the swapped block's.

    ``full`` float64 (n, n) over all columns, the blocks float64 (dimensions, n) on the grid,
    ``out`` float32 (n, n).
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


@njit(cache=True)
def _own_nearest(full, rows, donors, once, out):
    """Donor nearest to each row outside one block; ``rows`` and ``donors`` (dimensions, n) hold the
    block.
    """
    rest = np.empty(full.shape[1])
    given = np.zeros(full.shape[1])  # infinite where a donor is gone
    for i in range(out.size):
        for j in range(rest.size):
            rest[j] = full[i, j] + given[j]
        for k in range(rows.shape[0]):
            d, r = donors[k], rows[k, i]
            for j in range(rest.size):
                rest[j] -= (d[j] - r) * (d[j] - r)
        j = _first_lowest(rest, i % rest.size)
        out[i] = j
        if once:
            given[j] = np.inf


@njit(cache=True)
def _first_lowest(values, start):
    """Place of the lowest value, the first one at or cyclically after ``start``."""
    best = np.inf
    for j in range(values.size):
        best = min(best, values[j])
    j = start
    while values[j] != best:
        j = (j + 1) % values.size
    return j


@njit(parallel=True, cache=True)
def nearest_outside(full, rows, donors, starts, once):
    """Donors outside each group's block: int64 (groups, rows); see
    ``mint_cli.kernel.tree.nearest_outside``.
    """
    out = np.empty((starts.size - 1, full.shape[0]), np.int64)
    for g in prange(starts.size - 1):
        _own_nearest(
            full, rows[starts[g] : starts[g + 1]], donors[starts[g] : starts[g + 1]], once, out[g]
        )
    return out


ROW_CHUNKS = 64  # sums over rows are added chunk by chunk, so that threads do not change them


@njit(cache=True)
def _group_gaps(values, starts, i, out):
    """Largest absolute gap to sample ``i`` over every group's rows of ``values`` (channels, n):
    (groups, n).
    """
    for g in range(starts.size - 1):
        out[g] = 0
        for k in range(starts[g], starts[g + 1]):
            column = values[k]
            for j in range(column.size):
                out[g, j] = max(out[g, j], abs(column[j] - column[i]))


@njit(cache=True)
def _two_largest(gaps, top, owner, second):
    """Largest gap over all groups, the group it belongs to, and the largest over the other
    groups.
    """
    top[:], second[:], owner[:] = -1, 0, -1
    for g in range(gaps.shape[0]):
        for j in range(top.size):
            if gaps[g, j] > top[j]:
                second[j], top[j], owner[j] = max(top[j], np.float32(0)), gaps[g, j], g
            elif gaps[g, j] > second[j]:
                second[j] = gaps[g, j]


@njit(cache=True)
def _kth_smallest(row, skip, nearest):
    """The k-th smallest of ``row`` without entry ``skip``; ``nearest`` is room for k values."""
    k = nearest.size
    nearest[:] = np.inf
    for j in range(row.size):
        if row[j] < nearest[k - 1] and j != skip:
            slot = k - 1
            while slot > 0 and nearest[slot - 1] > row[j]:
                nearest[slot] = nearest[slot - 1]
                slot -= 1
            nearest[slot] = row[j]
    return nearest[k - 1]


@njit(cache=True)
def _row_term(x, yz, z, joint, i, nearest, psi):
    """One sample's term of the estimate; with k duplicates and more, the duplicates are counted
    (Mesner and Shalizi 2019).
    """
    for j in range(x.size):
        joint[j] = max(x[j], yz[j])
    reach = _kth_smallest(joint, i, nearest)
    in_xz, in_yz, in_z, in_all = 0, 0, 0, 0
    if reach > 0:
        for j in range(x.size):
            in_xz += max(x[j], z[j]) < reach
            in_yz += yz[j] < reach
            in_z += z[j] < reach
        return (
            psi[nearest.size] - psi[in_xz] - psi[in_yz] + psi[in_z]
        )  # the sample itself is the + 1 of the formula
    for j in range(x.size):
        in_xz += max(x[j], z[j]) == 0
        in_yz += yz[j] == 0
        in_z += z[j] == 0
        in_all += joint[j] == 0
    return psi[in_all - 1] - psi[in_xz - 1] - psi[in_yz - 1] + psi[in_z - 1]


@njit(parallel=True, cache=True)
def neighbour_information(child, child_starts, parent, parent_starts, k, psi):
    """Frenzel–Pompe information in nats of every pair, float64 (child groups, parent groups),
    largest-gap norm.

    ``child`` and ``parent`` float32 (channels, n); ``psi[m]`` is the digamma function at m, for m
    up to n.
    """
    n, children, parents = child.shape[1], child_starts.size - 1, parent_starts.size - 1
    sums = np.zeros((ROW_CHUNKS, children, parents))
    for chunk in prange(ROW_CHUNKS):
        x, y = np.empty((children, n), np.float32), np.empty((parents, n), np.float32)
        top, second, owner = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.int64)
        z, yz, joint = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
        nearest = np.empty(k, np.float32)
        for i in range(chunk, n, ROW_CHUNKS):
            _group_gaps(child, child_starts, i, x)
            _group_gaps(parent, parent_starts, i, y)
            _two_largest(y, top, owner, second)
            for g in range(parents):
                for j in range(n):
                    z[j] = second[j] if owner[j] == g else top[j]
                    yz[j] = top[j]
                for c in range(children):
                    sums[chunk, c, g] += _row_term(x[c], yz, z, joint, i, nearest, psi)
    total = np.zeros((children, parents))
    for chunk in range(ROW_CHUNKS):
        total += sums[chunk]
    return total / n
