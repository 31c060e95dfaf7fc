"""Columns eliminated and added one by one, against least squares solved anew and closed forms."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from mint_cli.kernel import elimination

NEVER = -1


def problem(k: int, m: int, seed: int = 0, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    """A well-conditioned gram (k, k) of correlated inputs, and cross products (m, k)."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(6 * k, k)) @ (np.eye(k) + rng.normal(size=(k, k)) / np.sqrt(k))
    gram = u.T @ u / len(u) + 0.01 * np.eye(k)
    return gram.astype(dtype), (rng.normal(size=(m, k)) @ gram).astype(dtype)


def eliminated(gram, cross, gone=None, keep=None):
    """Order, rises and kept weights of a full elimination of every problem."""
    m, k = cross.shape
    gone = np.zeros((m, k), bool) if gone is None else gone
    keep = np.full(m, NEVER) if keep is None else keep
    inverse = np.linalg.inv(gram)
    return elimination.take(inverse[None], cross @ inverse, gone, False, keep, k)


def explained(gram, cross, kept: list[int]) -> float:
    """What the columns ``kept`` explain of one target, solved anew."""
    if not kept:
        return 0.0
    return float(cross[kept] @ np.linalg.solve(gram[np.ix_(kept, kept)], cross[kept]))


@pytest.mark.parametrize("seed", range(4))
def test_the_column_that_goes_costs_least_when_all_others_are_solved_anew(seed):
    gram, cross = problem(9, 3, seed)
    order, rises, _ = eliminated(gram, cross)
    for row in range(3):
        left = list(range(9))
        for name, rise in zip(order[row], rises[row], strict=True):
            whole = explained(gram, cross[row], left)
            rest = {j: [i for i in left if i != j] for j in left}
            loss = {j: whole - explained(gram, cross[row], rest[j]) for j in left}
            assert name == min(loss, key=loss.get)
            assert rise == pytest.approx(loss[name], rel=1e-9)
            left.remove(name)


@pytest.mark.parametrize("seed", range(4))
def test_the_column_that_is_added_explains_most_when_all_are_solved_anew(seed):
    gram, cross = problem(9, 3, seed)
    gone, never = np.zeros((3, 9), bool), np.full(3, NEVER)
    order, falls, _ = elimination.take(gram[None], cross, gone, True, never, 6)
    assert order.shape == (3, 6)
    for row in range(3):
        there = []
        for name, fall in zip(order[row], falls[row], strict=True):
            gain = {
                j: explained(gram, cross[row], [*there, j]) - explained(gram, cross[row], there)
                for j in set(range(9)) - set(there)
            }
            assert name == max(gain, key=gain.get)
            assert fall == pytest.approx(gain[name], rel=1e-9)
            there.append(name)


@pytest.mark.parametrize("k", [1, 2, 5, 30, 67])
def test_rises_sum_to_all_that_the_columns_explained_and_the_order_names_each_once(k):
    gram, cross = problem(k, 4)
    order, rises, _ = eliminated(gram, cross)
    assert (np.sort(order, 1) == np.arange(k)).all()
    whole = [explained(gram, c, list(range(k))) for c in cross]
    np.testing.assert_allclose(rises.sum(1), whole, rtol=1e-9)


def test_weights_where_so_many_columns_are_left_are_those_solved_anew():
    gram, cross = problem(20, 4)
    keep = np.array([20, 7, 1, 0])
    order, _, kept = eliminated(gram, cross, keep=keep)
    for row, count in enumerate(keep):
        at, wanted = order[row, 20 - count :], np.zeros(20)
        wanted[at] = np.linalg.solve(gram[np.ix_(at, at)], cross[row, at])
        np.testing.assert_allclose(kept[row], wanted, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_and_two_threads_give_the_same_bits(dtype):
    gram, cross = problem(60, 9, dtype=dtype)
    before = numba.get_num_threads()
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one core")
    try:
        numba.set_num_threads(1)
        one = eliminated(gram, cross, keep=np.full(9, 12))
        numba.set_num_threads(2)
        two = eliminated(gram, cross, keep=np.full(9, 12))
    finally:
        numba.set_num_threads(before)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_a_problem_gets_the_same_bits_alone_as_among_others_and_with_a_matrix_of_its_own():
    inverses = np.stack([np.linalg.inv(problem(40, 1, seed, np.float32)[0]) for seed in range(3)])
    full = problem(40, 3, dtype=np.float32)[1]
    gone, keep = np.zeros((3, 40), bool), np.full(3, 9)
    among = elimination.take(inverses, full, gone, False, keep, 40)
    for row in range(3):
        one = slice(row, row + 1)
        alone = elimination.take(inverses[one], full[one], gone[one], False, keep[one], 40)
        shared = elimination.take(inverses[one], full, gone, False, keep, 40)
        for a, b, c in zip(among, alone, shared, strict=True):
            assert (a[one] == b).all() and (c[one] == b).all()


def test_columns_already_gone_go_first_and_the_rest_goes_as_if_they_had_never_been():
    gram, cross = problem(12, 2)
    gone = np.zeros((2, 12), bool)
    gone[0, [1, 4, 7]] = gone[1, [0, 11]] = True
    order, rises, _ = eliminated(gram, cross, gone)
    for row in range(2):
        lost, left = np.flatnonzero(gone[row]), np.flatnonzero(~gone[row])
        assert set(order[row, : len(lost)]) == set(lost) and (rises[row, : len(lost)] == 0).all()
        wanted, rise, _ = eliminated(gram[np.ix_(left, left)], cross[row : row + 1, left])
        assert (order[row, len(lost) :] == left[wanted[0]]).all()
        np.testing.assert_allclose(rises[row, len(lost) :], rise[0], rtol=1e-9)


def test_columns_already_gone_are_added_last():
    gram, cross = problem(8, 1)
    gone = np.zeros((1, 8), bool)
    gone[0, [2, 5]] = True
    order, falls, _ = elimination.take(gram[None], cross, gone, True, np.full(1, NEVER), 8)
    assert set(order[0, 6:]) == {2, 5} and (falls[0, 6:] == 0).all()


def test_orthogonal_inputs_go_by_squared_weight_times_variance():
    rng = np.random.default_rng(0)
    variance, weights = rng.uniform(0.1, 3.0, 15), rng.normal(size=(3, 15))
    order, rises, _ = eliminated(np.diag(variance), weights * variance)
    for row in range(3):
        cost = weights[row] ** 2 * variance
        assert (order[row] == cost.argsort()).all()
        np.testing.assert_allclose(rises[row], np.sort(cost), rtol=1e-12)


@pytest.mark.parametrize("largest", [False, True])
def test_of_equal_columns_the_first_is_taken_first(largest):
    values, gone, never = np.ones((1, 7)), np.zeros((1, 7), bool), np.full(1, NEVER)
    order, _, _ = elimination.take(np.eye(7)[None], values, gone, largest, never, 7)
    assert order[0].tolist() == list(range(7))
