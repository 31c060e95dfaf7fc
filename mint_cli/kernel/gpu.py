"""The same loops on a GPU: one Triton program per tree, distances by exact float64 products."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mint_cli.kernel.distance import squares

VISITED = tl.constexpr(2**63 - 1)


@triton.jit
def _prim(base, child, starts, ends, n, BLOCK: tl.constexpr, DROP_ZERO: tl.constexpr):
    """One tree: program (child group, parent); keys, order of sums and ties as in
    ``mint_cli.kernel.cpu._tree``.
    """
    group, part = tl.program_id(0), tl.program_id(1)
    base += part.to(tl.int64) * n * n
    ends += (part * tl.num_programs(0) + group).to(tl.int64) * n
    first, last = tl.load(starts + group), tl.load(starts + group + 1)
    j = tl.arange(0, BLOCK).to(tl.int64)
    inside = j < n
    tail = tl.where(inside, j << 16, VISITED)
    key = tl.full((BLOCK,), VISITED, tl.int64)
    v = tl.min(j, 0)  # vertex 0, as int64
    for _ in range(n - 1):
        tail = tl.where(j == v, VISITED, tail)
        key = tl.where(j == v, VISITED, key)
        distance = tl.load(base + v * n + j, mask=inside, other=0.0)
        for k in range(first, last):
            gap = tl.load(child + k * n + j, mask=inside, other=0.0) - tl.load(child + k * n + v)
            distance = distance + gap * gap
        if DROP_ZERO:
            distance = tl.where(distance > 0, distance, float("inf"))
        bits = distance.to(tl.int32, bitcast=True).to(tl.int64)
        key = tl.minimum(key, (bits << 32) | tail | v)
        best = tl.min(key, 0)
        v = (best >> 16) & 65535
        tl.store(ends + v, (best & 65535).to(tl.int32))


def spanning_trees(base: Tensor, child: Tensor, starts: Tensor, drop_zero: bool) -> Tensor:
    """Trees of every child group on every parent part ``base`` (parents, n, n): int32 (parents,
    groups, n).
    """
    parents, n, _ = base.shape
    groups = len(starts) - 1
    ends = torch.zeros(parents, groups, n, dtype=torch.int32, device=base.device)
    block = triton.next_power_of_2(n)
    # Without fused multiply-add every distance has the bits of the CPU's.
    _prim[(groups, parents)](
        base,
        child,
        starts,
        ends,
        n,
        BLOCK=block,
        DROP_ZERO=drop_zero,
        num_warps=min(16, max(1, block // 256)),
        enable_fp_fusion=False,
    )
    return ends


def joint_part(
    full: Tensor,
    parent: Tensor,
    swapped: Tensor,
    own_weight: float,
    rest_weight: float,
    out: Tensor,
) -> None:
    """As ``mint_cli.kernel.cpu.joint_part``; the blocks are (dimensions, n)."""
    rest = full - squares(parent.T, parent.T)
    out.copy_(rest_weight * rest + own_weight * squares(swapped.T, swapped.T))


@triton.jit
def _donate(full, rows, donors, starts, out, n, m, BLOCK: tl.constexpr, ONCE: tl.constexpr):
    """Donors of one group, row after row, as ``mint_cli.kernel.cpu._own_nearest``; all sums are
    exact integers.
    """
    group = tl.program_id(0)
    out += group.to(tl.int64) * n
    first, last = tl.load(starts + group), tl.load(starts + group + 1)
    j = tl.arange(0, BLOCK)
    gone = j >= m
    for i in range(n):
        rest = tl.load(full + j, mask=j < m, other=0.0)
        for k in range(first, last):
            gap = tl.load(donors + k * m + j, mask=j < m, other=0.0) - tl.load(rows + k * n + i)
            rest = rest - gap * gap
        rest = tl.where(gone, float("inf"), rest)
        ahead = tl.where(rest == tl.min(rest, 0), (j - i % m + m) % m, BLOCK)
        taken = (tl.min(tl.where(gone, BLOCK, ahead), 0) + i) % m
        tl.store(out + i, taken.to(tl.int64))
        if ONCE:
            gone = gone | (j == taken)
        full += m


def nearest_outside(
    full: Tensor, rows: Tensor, donors: Tensor, starts: Tensor, once: bool
) -> Tensor:
    """Donors outside each group's block: int64 (groups, rows); see
    ``mint_cli.kernel.tree.nearest_outside``.
    """
    n, m = full.shape
    out = torch.empty(len(starts) - 1, n, dtype=torch.int64, device=full.device)
    block = triton.next_power_of_2(m)
    _donate[(len(out),)](
        full,
        rows,
        donors,
        starts,
        out,
        n,
        m,
        BLOCK=block,
        ONCE=once,
        num_warps=8,
        enable_fp_fusion=False,
    )
    return out
