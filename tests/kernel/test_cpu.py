"""The CPU's kernels: the same bits whatever the threads, visited in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from trees import ONES, layer, plain_prim, whole

from mint_cli.kernel import cpu, tree
from mint_cli.kernel.distance import squares


def test_the_number_of_threads_changes_nothing() -> None:
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    arguments = layer(np.random.default_rng(4), 60, True)
    counts = []
    try:
        for threads in (1, most):
            torch.set_num_threads(threads)
            counts.append(tree.edge_counts(*arguments, ONES, ONES, 30))
    finally:
        torch.set_num_threads(1)
    assert torch.equal(*counts)


def test_no_more_threads_run_than_numba_was_started_with() -> None:
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    before = numba.get_num_threads()
    try:
        cpu.use_threads(10**6)
        assert numba.get_num_threads() == most
        cpu.use_threads(1)
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)


def test_visits_are_in_prims_order_each_vertex_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = whole(rng, 12, 3)
        base = squares(points, points).float().numpy()
        visits = cpu.visiting_order(base).tolist()
        assert sorted(visits) == list(range(12)) and visits[0] == 0
        reached = [base[v, visits[:i]].min() for i, v in enumerate(visits) if i]
        left = [min(base[u, visits[:i]].min() for u in visits[i:]) for i in range(1, 12)]
        assert reached == left


@pytest.mark.parametrize("drop_zero", [False, True])
def test_trees_go_by_the_names_of_vertices_whatever_the_order_of_their_rows(
    drop_zero: bool,
) -> None:
    rng = np.random.default_rng(1)
    points = whole(rng, 15, 4)
    base = squares(points, points).float()
    order = torch.cat(
        [torch.zeros(1, dtype=torch.int64), 1 + torch.from_numpy(rng.permutation(14))]
    )
    starts, child = np.array([0, 1]), torch.zeros(1, 15)
    plain = cpu.spanning_trees(base.numpy(), child.numpy(), starts, drop_zero, np.arange(15))
    turned = cpu.spanning_trees(
        base[order][:, order].contiguous().numpy(), child.numpy(), starts, drop_zero, order.numpy()
    )
    assert np.array_equal(plain, turned)
    if not drop_zero:
        assert np.array_equal(plain[0], plain_prim(base.numpy()))
