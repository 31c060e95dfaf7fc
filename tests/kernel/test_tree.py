"""Trees: equal to slow references on hundreds of small sets with ties and duplicates, on every
device.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from trees import ONES, layer, plain_prim, whole

from mint_cli.errors import DataError
from mint_cli.kernel import tree
from mint_cli.kernel.distance import squares

SETS = 300


def one_tree(points: torch.Tensor, drop_zero: bool = False) -> np.ndarray:
    """Tree ends of points (n, d): all columns but the last as the parents' part, the last as the
    child.
    """
    base = squares(points[:, :-1], points[:, :-1]).float()[None]
    return tree.spanning_trees(
        base, points[:, -1:].T.contiguous().float(), torch.tensor([0, 1]), drop_zero
    )[0, 0].numpy()


def lengths(points: torch.Tensor) -> np.ndarray:
    """Squared distances by direct summation."""
    return ((points[:, None] - points[None]) ** 2).sum(-1).numpy()


def kruskal_weight(distance: np.ndarray) -> float:
    """Weight of a minimum spanning tree by the other classical algorithm."""
    n, total = len(distance), 0.0
    part = list(range(n))
    for length, i, j in sorted((distance[a, b], a, b) for a in range(n) for b in range(a)):
        if part[i] != part[j]:
            total += length
            part = [part[i] if p == part[j] else p for p in part]
    return total


def test_trees_with_ties_and_duplicates_equal_plain_prim_and_are_as_light_as_kruskals() -> None:
    rng = np.random.default_rng(0)
    for _ in range(SETS):
        points = whole(rng, rng.integers(2, 14), rng.integers(1, 8))
        ends, distance = one_tree(points), lengths(points)
        assert np.array_equal(ends, plain_prim(distance))
        assert distance[np.arange(1, len(ends)), ends[1:]].sum() == kruskal_weight(distance)


def test_trees_without_ties_have_the_edges_of_scipys() -> None:
    rng = np.random.default_rng(1)
    for _ in range(SETS):
        points = torch.from_numpy(rng.normal(size=(int(rng.integers(2, 40)), 5)) * 1000).round()
        ends = one_tree(points)
        found = {frozenset(edge) for edge in enumerate(ends.tolist())} - {frozenset([0])}
        theirs = minimum_spanning_tree(lengths(points)).tocoo()
        assert found == {
            frozenset(edge) for edge in zip(theirs.row.tolist(), theirs.col.tolist(), strict=True)
        }


def test_cross_edges_are_those_between_the_first_vertices_and_the_others() -> None:
    ends = torch.tensor([[0, 0, 1, 2, 1]])  # edges 1-0, 2-1, 3-2, 4-1
    assert [int(tree.cross_edges(ends, first)) for first in (1, 2, 3)] == [1, 2, 2]


def test_duplicates_hang_on_longer_edges_only_where_zero_edges_are_dropped() -> None:
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 3.0]]).double()
    distance = np.sqrt(lengths(points))
    for drop_zero, weight in ((False, 3.0), (True, 4.0)):
        ends = one_tree(points, drop_zero)
        assert distance[np.arange(1, 4), ends[1:]].sum() == weight


def test_the_published_count_compares_the_column_of_a_stored_edge_with_its_number() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        n = int(rng.integers(4, 30))
        ends = torch.from_numpy(np.array([0] + [rng.integers(v) for v in range(1, n)]))[None]
        vertex = np.arange(1, n)
        near, far = (f(ends[0, 1:].numpy(), vertex) for f in (np.minimum, np.maximum))
        stored = csr_array((np.ones(n - 1), (near, far)), shape=(n, n))
        stored.sort_indices()
        first = n // 2
        expected = sum((column < first) != (i < first) for i, column in enumerate(stored.indices))
        assert int(tree.columns_against_counter(ends, first)) == expected


def test_counts_of_all_pairs_are_those_of_trees_built_pair_by_pair() -> None:
    rng = np.random.default_rng(3)
    for real in (False, True):
        child, child_starts, parent, swapped, starts = layer(rng, 40, real)
        counts = tree.edge_counts(child, child_starts, parent, swapped, starts, ONES, ONES, 20)
        for c in range(3):
            for g in range(3):
                joint = parent.clone()
                joint[:, starts[g] : starts[g + 1]] = swapped[:, starts[g] : starts[g + 1]]
                base = torch.from_numpy(lengths(joint)).float().numpy()
                for column in child.T[child_starts[c] : child_starts[c + 1]].float().numpy():
                    base = base + (column[:, None] - column[None]) ** 2
                ends = torch.from_numpy(plain_prim(base))
                assert counts[c, g] == tree.cross_edges(ends, 20)


@pytest.mark.parametrize("once", [False, True])
def test_donors_are_the_nearest_outside_a_group_and_ties_go_to_the_first_from_the_rows_own_place(
    once: bool,
) -> None:
    rng = np.random.default_rng(5)
    starts = torch.tensor([0, 2, 3, 5])
    for _ in range(100):
        rows, donors = whole(rng, 6, 5, most=2), whole(rng, 9, 5, most=2)
        found = tree.nearest_outside(rows, donors, starts, once)
        for g in range(3):
            rest = [k for k in range(5) if not starts[g] <= k < starts[g + 1]]
            gone: list[int] = []
            for i in range(6):
                order = [(i + step) % 9 for step in range(9) if (i + step) % 9 not in gone]
                expected = min(
                    order, key=lambda j: float(((rows[i, rest] - donors[j, rest]) ** 2).sum())
                )
                assert found[g, i] == expected
                gone += [expected] if once else []


def test_without_any_condition_every_row_gets_the_donor_in_its_place() -> None:
    found = tree.nearest_outside(
        torch.zeros(7, 2).double(), torch.ones(7, 2).double(), torch.tensor([0, 2]), False
    )
    assert found.tolist() == [list(range(7))]


def test_more_points_than_a_key_can_number_are_refused() -> None:
    base = torch.zeros(1, 1, 1).expand(1, tree.MOST_VERTICES + 1, tree.MOST_VERTICES + 1)
    with pytest.raises(DataError, match="at most 65536 points"):
        tree.spanning_trees(base, torch.zeros(1, 1), torch.tensor([0, 1]), False)


def test_negative_distances_and_infinite_coordinates_are_refused() -> None:
    for base, x in ((-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))):
        with pytest.raises(DataError, match="finite coordinates"):
            tree.spanning_trees(
                torch.full((1, 3, 3), base), torch.full((1, 3), x), torch.tensor([0, 1]), False
            )
