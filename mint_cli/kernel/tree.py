"""Minimum spanning trees of many (child, parent) pairs at once, and what is read from them.

The squared distance of a joint vector is a sum over blocks: the parents' part is built once per
parent group and shared by all child groups, whose own few dimensions are added inside the loop.
Memory does not grow with the number of pairs. Trees are exact; ties go to the lowest vertex, then
to the lowest tree end (Prim's algorithm from vertex 0).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mint_cli.errors import DataError
from mint_cli.kernel.distance import squares

MOST_VERTICES = 2**16  # a key holds two vertices and a float32 distance in 63 bits
# parent parts that a GPU holds at once, so that its processors have trees enough
PARTS_PER_LAUNCH = 16

Reader = Callable[[Tensor, int], Tensor]


def device(samples: Tensor) -> torch.device:
    """Where trees of these samples grow: their own GPU where Triton is installed, else the CPU."""
    return (
        samples.device
        if samples.is_cuda and importlib.util.find_spec("triton")
        else torch.device("cpu")
    )


def spanning_trees(
    base: Tensor, child: Tensor, starts: Tensor, drop_zero: bool, names: Tensor | None = None
) -> Tensor:
    """Tree end of every vertex for each (parent, child group): int32 (parents, groups, n); entry 0
    means nothing.

    ``base`` float32 (parents, n, n) holds the parents' squared distances, ``child`` float32 (child
    channels, n) the coordinates that each child group adds; group c owns rows ``starts[c]`` up to
    ``starts[c + 1]``.  ``drop_zero`` leaves out edges of length 0.  ``names`` int64 (n,), on the
    CPU only, numbers the vertices, the first 0.
    """
    if base.shape[-1] > MOST_VERTICES:
        raise DataError(f"a tree takes at most {MOST_VERTICES} points, not {base.shape[-1]}")
    if not (base.amin() >= 0 and child.isfinite().all()):  # packed keys order only these
        raise DataError("a tree needs finite coordinates and distances that are not negative")
    if base.is_cuda:
        from mint_cli.kernel import gpu

        return gpu.spanning_trees(base, child, starts, drop_zero)
    from mint_cli.kernel import cpu
    from mint_cli.kernel.threads import as_many_as_torch

    numbers = np.arange(base.shape[-1]) if names is None else names.numpy()
    with as_many_as_torch():
        parts = [
            cpu.spanning_trees(part.numpy(), child.numpy(), starts.numpy(), drop_zero, numbers)
            for part in base
        ]
    return torch.stack([torch.from_numpy(ends) for ends in parts])


def cross_edges(ends: Tensor, first: int) -> Tensor:
    """Edges that join one of the ``first`` vertices to one of the others: int64, one axis less than
    ``ends``.
    """
    vertex = torch.arange(ends.shape[-1], device=ends.device)
    cross = (ends < first) != (vertex < first)
    return cross[..., 1:].sum(-1)


def columns_against_counter(ends: Tensor, first: int) -> Tensor:
    """What published code counts instead (papers: D2): the far end of the i-th stored edge against
    i itself.

    Edges are stored as in a sparse upper triangle: near end before far end, sorted by near, then
    far end.
    """
    n = ends.shape[-1]
    vertex = torch.arange(n, device=ends.device)
    ends = ends.long()
    packed = (torch.minimum(ends, vertex) * n + torch.maximum(ends, vertex))[..., 1:]
    far = packed.sort(-1).values % n
    return ((far < first) != (vertex[:-1] < first)).sum(-1)


def parent_parts(
    full: Tensor, parent: Tensor, swapped: Tensor, starts: Tensor, own: Tensor, rest: Tensor
) -> Iterator[Tensor]:
    """Squared distances of the parents of the joint vectors, a few parent groups at a time: float32
    (parents, n, n).

    ``full`` holds the squared distances of ``parent``; ``parent`` and ``swapped`` (n, parent
    channels) are on the grid of ``mint_cli.kernel.distance``.  Columns of the group at hand come
    from ``swapped``, all others from ``parent``; ``own`` and ``rest`` (parent groups,) weigh the
    two sums. The tensor is used again for the next groups.
    """
    n, groups, per_launch = len(parent), len(starts) - 1, PARTS_PER_LAUNCH if parent.is_cuda else 1
    columns, swapped_columns = parent.T.contiguous(), swapped.T.contiguous()
    room = _room(min(per_launch, groups), n, parent.device)
    bounds = starts.tolist()
    for begin in range(0, groups, per_launch):
        chunk = range(begin, min(begin + per_launch, groups))
        for out, g in zip(room, chunk, strict=False):
            block = slice(bounds[g], bounds[g + 1])
            _joint_part(
                full, columns[block], swapped_columns[block], float(own[g]), float(rest[g]), out
            )
        yield room[: len(chunk)]


def _room(parts: int, n: int, where: torch.device) -> Tensor:
    """Uninitialised float32 (parts, n, n); on the CPU from numpy, which asks for huge pages (trees
    grow up to 1.8 times as fast).
    """
    if where.type == "cpu":
        return torch.from_numpy(np.empty((parts, n, n), np.float32))
    return torch.empty(parts, n, n, device=where)


def _joint_part(
    full: Tensor, parent: Tensor, swapped: Tensor, own: float, rest: float, out: Tensor
) -> None:
    """Fill ``out`` (n, n) with one group's part."""
    if full.is_cuda:
        from mint_cli.kernel import gpu

        return gpu.joint_part(full, parent, swapped, own, rest, out)
    from mint_cli.kernel import cpu
    from mint_cli.kernel.threads import as_many_as_torch

    with as_many_as_torch():
        cpu.joint_part(full.numpy(), parent.numpy(), swapped.numpy(), own, rest, out.numpy())


def nearest_outside(rows: Tensor, donors: Tensor, starts: Tensor, once: bool) -> Tensor:
    """For every group, the donor nearest to each row in all columns but the group's: int64 (groups,
    rows).

    Both are on the grid; ``once``: every donor serves one row, and rows choose in their order among
    those left (at least as many donors as rows).  Of equally near donors the first at or cyclically
    after the row's own position is taken, so rows without any other column get distinct donors, as
    by a permutation.
    """
    full = squares(rows, donors)
    row_columns, donor_columns = rows.T.contiguous(), donors.T.contiguous()
    if full.is_cuda:
        from mint_cli.kernel import gpu

        return gpu.nearest_outside(full, row_columns, donor_columns, starts, once)
    from mint_cli.kernel import cpu
    from mint_cli.kernel.threads import as_many_as_torch

    with as_many_as_torch():
        return torch.from_numpy(
            cpu.nearest_outside(
                full.numpy(), row_columns.numpy(), donor_columns.numpy(), starts.numpy(), once
            )
        )


def edge_counts(
    child: Tensor,
    child_starts: Tensor,
    parent: Tensor,
    swapped: Tensor,
    parent_starts: Tensor,
    own: Tensor,
    rest: Tensor,
    first: int,
    read: Reader = cross_edges,
    drop_zero: bool = False,
) -> Tensor:
    """What ``read`` counts in the tree of every pair, the ``first`` vertices being one sample:
    int64 (child groups, parent groups).
    """
    full = squares(parent, parent)
    names = None
    if not full.is_cuda:
        # Rows in the order in which the parents' own tree grows: the trees of most pairs grow
        # alike, so that whole tiles
        # are soon inside them and passed over (half the time).  Names keep ties and results as they
        # were.
        from mint_cli.kernel import cpu
        from mint_cli.kernel.threads import as_many_as_torch

        with as_many_as_torch():
            names = torch.from_numpy(cpu.visiting_order(full.float().numpy()))
        full, child, parent, swapped = (
            full[names][:, names],
            child[names],
            parent[names],
            swapped[names],
        )
    columns = child.T.contiguous().float()
    counts = [
        read(spanning_trees(part, columns, child_starts, drop_zero, names), first)
        for part in parent_parts(full, parent, swapped, parent_starts, own, rest)
    ]
    return torch.cat(counts).T.cpu()
